"""How far a command is: a bar on a terminal, else a line per case with the time left, so that a batch log is never silent."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress

from monai_tta.cli.console import console, is_interactive, say
from monai_tta.reporting.number_format import number_of

SILENCE_S = 60.0  # a log gets a line at least this often


class CaseProgress(ABC):
    """Counts cases that are done. Use `show_progress` to get one.

    Args:
        doing: what is being done to each, e.g. "segmenting".
        total: how many there are; None where that is not known yet.
        unit: what they are, in a plural that ends in "s".
    """

    def __init__(self, doing: str, total: int | None, unit: str) -> None:
        self.doing = doing
        self.total = total
        self.unit = unit
        self.done = 0

    def advance(self, text: str = "", *, counts: bool = True) -> None:
        """One case is done.

        Args:
            text: what became of it, e.g. "c0.nii.gz adapted, 4.1 s".
            counts: whether it took time in this run. One that an earlier run did says nothing about the time left.
        """
        self.done += 1
        self._show(text, 1 if counts else 0)

    def move_to(self, done: int, total: int | None, text: str = "", *, counts: bool = True) -> None:
        """So many cases are done, of so many.

        Args:
            done: how many.
            total: of how many; None where that is not known yet.
            text: what became of them.
            counts: whether they took time in this run.
        """
        newly = max(0, done - self.done)
        self.done = done
        self.total = total
        self._show(text, newly if counts else 0)

    @abstractmethod
    def _show(self, text: str, counted: int) -> None:
        """Show what was just done; ``counted`` cases more took time in this run."""


class ProgressBar(CaseProgress):
    """A bar by rich, for a terminal."""

    def __init__(self, doing: str, total: int | None, unit: str, bar: Progress) -> None:
        super().__init__(doing, total, unit)
        self._bar = bar
        self._task = bar.add_task(doing, total=total)

    def _show(self, text: str, counted: int) -> None:
        self._bar.update(self._task, completed=self.done, total=self.total)


class ProgressLines(CaseProgress):
    """A line of text per case, for a log: ``3/20 c0.nii.gz adapted, 4.1 s; about 1 min left``.

    Where a case takes longer than a minute, a line each minute says that it is still at work.
    """

    def __init__(
        self,
        doing: str,
        total: int | None,
        unit: str = "cases",
        clock: Callable[[], float] = time.monotonic,
        silence: float = SILENCE_S,
    ) -> None:
        super().__init__(doing, total, unit)
        self._clock = clock
        self._silence = silence
        self._began = clock()
        self._counted = 0
        self._stopped = threading.Event()
        self._spoke = self._began

    @contextmanager
    def speaking(self) -> Iterator[ProgressLines]:
        """Print lines while this is open."""
        say(f"{self.doing} {number_of(self.total, self.unit)}" if self.total is not None else self.doing)
        watch = threading.Thread(target=self._say_still_working, daemon=True)
        watch.start()
        try:
            yield self
        finally:
            self._stopped.set()
            watch.join()

    def _show(self, text: str, counted: int) -> None:
        self._counted += counted
        self._spoke = self._clock()
        say("; ".join(part for part in (f"{self._place()} {text}".strip(), self._time_left()) if part))

    def _place(self) -> str:
        return str(self.done) if self.total is None else f"{self.done}/{self.total}"

    def _time_left(self) -> str:
        left = (self.total or 0) - self.done
        if not self._counted or left <= 0:
            return ""
        return f"about {describe_duration(left * (self._clock() - self._began) / self._counted)} left"

    def _say_still_working(self) -> None:
        while not self._stopped.wait(min(self._silence, 1.0)):
            if self._clock() - self._spoke >= self._silence:
                self._spoke = self._clock()
                say(f"{self._place()} done; still {self.doing}, after {describe_duration(self._spoke - self._began)}")


@contextmanager
def show_progress(doing: str, total: int | None = None, unit: str = "cases") -> Iterator[CaseProgress]:
    """Show on standard error how far a command is: with a bar on a terminal, else in lines.

    Args:
        doing: what is being done to each case, e.g. "segmenting".
        total: how many there are; None where that is not known yet.
        unit: what they are, in a plural that ends in "s".
    """
    if is_interactive():
        with Progress(console=console) as bar:
            yield ProgressBar(doing, total, unit, bar)
    else:
        with ProgressLines(doing, total, unit).speaking() as lines:
            yield lines


def describe_duration(seconds: float) -> str:
    """A duration in the unit that a reader expects: "40 s", "5 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
