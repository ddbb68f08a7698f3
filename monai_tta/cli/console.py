"""How commands print: progress and errors on standard error, one line each; tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import typer
from rich.console import Console
from rich.table import Column, Table

from monai_tta.compute.json_values import finite_json
from monai_tta.pipeline.describe_error import cause_of, plain_words

_LONGEST = 2000


class _StandardError:
    """Standard error, or nothing where it cannot be written to: a log on a full disk or a closed pipe must not end a run."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # it may be closed, or None from the beginning
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


console = Console(file=cast(Any, _StandardError()))


def is_interactive() -> bool:
    """Whether standard error is a terminal, on which a progress bar can move."""
    try:
        return bool(console.is_terminal and sys.stderr.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def say(text: str, style: str | None = None) -> None:
    """Print one line on standard error, whatever names and messages are in it."""
    console.print(make_printable(text, console.encoding), markup=False, highlight=False, soft_wrap=True, style=style)


def make_printable(text: str, encoding: str = "utf-8") -> str:
    """A text that any terminal can print on one line.

    Bytes that are no characters, control characters (a file's name may hold those that move the cursor) and what the terminal's
    encoding lacks are written as escapes. A very long text is cut.
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def print_line(text: str) -> None:
    """Print one line on standard output."""
    out = Console(markup=False, highlight=False)
    out.print(make_printable(text, out.encoding), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on standard output. Brackets in a cell are text, not markup. Long cells are folded, never cut."""
    out = Console(markup=False, highlight=False)
    table = Table(*(Column(name, overflow="fold") for name in columns), title=title)
    for row in rows:
        table.add_row(*(make_printable(cell, out.encoding) for cell in row))
    out.print(table)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output. Numbers that JSON has no word for (NaN, infinity) become null."""
    typer.echo(json.dumps(finite_json(document), indent=1, default=str))


def describe_failure(error: BaseException) -> str:
    """An error on one line; with its kind, where that is needed to make sense of the message."""
    if isinstance(error, RuntimeError):  # MONAI's words around what went wrong in a config
        error = cause_of(error)
    words = plain_words(error) or " ".join(str(error).split())
    if isinstance(error, KeyError) and plain_words(error):
        return words
    if isinstance(error, ValueError | OSError | ImportError) and words:
        return words
    return f"{type(error).__name__}: {words or ('out of memory' if isinstance(error, MemoryError) else 'it does not say why')}"


@contextmanager
def report_errors() -> Iterator[None]:
    """Print any error in one line and end with code 2: what was asked for cannot be done."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:  # a bundle's config can run any code, which can raise anything
        say(describe_failure(error), "red")
        raise typer.Exit(2) from error
