"""When a run was started and, where it was stopped, resumed. Journals note it, and the records say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

_STARTS = "starts"


def local_time() -> str:
    """The time of this machine with its offset from UTC, as ISO 8601, e.g. 2026-11-30T14:02:11+01:00."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def in_order(starts: Iterable[str]) -> list[str]:
    """Each time once, the first one first, whatever their offsets from UTC.

    >>> in_order(["2026-11-30T14:00:00+01:00", "2026-11-30T13:30:00+00:00", "2026-11-30T14:00:00+01:00"])
    ['2026-11-30T14:00:00+01:00', '2026-11-30T13:30:00+00:00']
    """
    return sorted(set(starts), key=datetime.fromisoformat)


def note_of_starts(starts: Sequence[str]) -> dict[str, Any]:
    """The line of a journal that holds them."""
    return {_STARTS: in_order(starts)}


def starts_in(lines: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """The times that a journal of the same run notes; none of one with other settings, whose work nobody resumes.

    Args:
        lines: of the journal.
        settings: of the run.

    Raises:
        ValueError: for what is no time.
        TypeError: for what is no list of times.
    """
    if not lines or lines[0].get("settings") != settings:
        return []
    return in_order(start for line in lines[1:] for start in line.get(_STARTS, ()))
