"""How commands talk: on standard error while they work, in one line where something can't be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

console = Console(stderr=True)
PRECISION = "exact"


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """Say these errors in one line and end with code 2: what was asked for can't be done."""
    try:
        yield
    except kinds as error:
        console.print(str(error), markup=False, highlight=False, style="red")
        raise typer.Exit(2) from error
