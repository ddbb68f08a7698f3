"""What to do with a mask, by its input and by what is expected of its structures: use as it is, look at it, do not use."""

from __future__ import annotations

from collections.abc import Sequence

USE = "use as it is"
LOOK = "look at it"
REFUSE = "do not use"
UNKNOWN = "look at it: its worth is not known"
UNUSUAL = "look at it: its input is unusual"


def judge(intervals: Sequence[tuple[float, float]], accept: float, input_check: str | None = None) -> tuple[str, int]:
    """What to do with a mask, and the number of the structure that decides.

    It is used where every structure's interval begins at the wanted Dice or above it, and not used where some structure's
    interval ends below it. Otherwise it is to be looked at, and so it is where its input is unusual.

    Args:
        intervals: of each structure, at least one, the ends of the interval that holds its true Dice, in [0, 1].
        accept: the wanted Dice.
        input_check: what the check of its input found, as on record.
    """
    numbers = range(len(intervals))
    if any(high < accept for _, high in intervals):
        return REFUSE, min(numbers, key=lambda number: intervals[number][1])
    worst = min(numbers, key=lambda number: intervals[number])
    if is_unusual(input_check):
        return UNUSUAL, worst
    return USE if intervals[worst][0] >= accept else LOOK, worst


def is_unusual(input_check: str | None) -> bool:
    """Whether a check found an image unlike the source's, and nothing was done about it.

    Args:
        input_check: what it found, as on record; None where it found nothing, or there was no check.
    """
    return (input_check or "").startswith("not corrected")


def was_corrected(input_check: str | None) -> bool:
    """Whether a check found an image unlike the source's, and it was corrected.

    Args:
        input_check: as for `is_unusual`.
    """
    return (input_check or "").startswith("corrected")
