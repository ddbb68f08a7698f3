"""How commands talk: on standard error while they work, in one line where something can't be done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import typer
from rich.console import Console


class _Patient:
    """Standard error, or nothing where it can't be written to: a log on a full disk or a pipe that nobody reads any more must
    not decide what becomes of the images."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # it may be closed, and be None when it was so from the beginning
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    @property
    def _stream(self) -> Any:
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # what rich puts in its place would come back to us

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


console = Console(file=cast(Any, _Patient()))
BUDGET: Any = typer.Option(help="how many windows of a volume teach; 0 for all; if not given, what the method asks for")
PRECISION = "exact"
_LONGEST = 2000


def say(text: str, style: str | None = None) -> None:
    """One line on standard error, whatever names and messages are in it."""
    console.print(shown(text, console.encoding), markup=False, highlight=False, soft_wrap=True, style=style)


def shown(text: str, encoding: str = "utf-8") -> str:
    """A text that any terminal can print on one line: bytes that are no characters, control characters (a file's name may
    hold those that move the cursor) and what the terminal's encoding lacks are written as escapes."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def describe_failure(error: BaseException) -> str:
    """An error on one line; with its kind, where that is needed to make sense of the message."""
    words = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError) and words:
        return words
    return f"{type(error).__name__}: {words or 'out of memory' if isinstance(error, MemoryError) else words}"


@contextmanager
def report_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Say these errors in one line and end with code 2: what was asked for can't be done."""
    try:
        yield
    except kinds as error:
        say(describe_failure(error), "red")
        raise typer.Exit(2) from error


def budget_of(said: int | None) -> Any:
    """What `AdaptiveInferer` calls the budget that was said, or not."""
    return "auto" if said is None else said or None
