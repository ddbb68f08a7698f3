"""A case of ``records.json`` with what is to be done with its mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_tta.reporting.masks_to_use import LOOK, REFUSE, UNKNOWN, UNUSUAL, USE, is_unusual, judge, was_corrected

FAILED = "no mask: it failed"
UNSORTED = "not sorted: no worth is known"
ORDER = (REFUSE, FAILED, UNUSUAL, LOOK, UNKNOWN, UNSORTED, USE)  # what needs a person comes first


@dataclass(frozen=True)
class JudgedCase:
    """A case on the page.

    Args:
        entry: of the case in ``records.json``.
        what: one of `ORDER`.
        expected: what is expected of the structure that decided, an entry of ``quality``; None where nothing is known.
    """

    entry: Mapping[str, Any]
    what: str
    expected: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The case's name; in anonymous records its number."""
        return str(self.entry.get("name", f"image {self.entry['number']}"))

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask."""
        return self.what != FAILED

    @property
    def is_unusual(self) -> bool:
        """Whether the check of its input found it unlike the source's images, and it was not corrected."""
        return is_unusual(self.entry.get("input_check"))

    @property
    def was_corrected(self) -> bool:
        """Whether its input was unlike the source's images, and was corrected."""
        return was_corrected(self.entry.get("input_check"))

    @property
    def ranking(self) -> float | None:
        """The mean over structures of what masks are sorted by; None where nothing is known.

        Records of before there was a ranking go by the lower ends.
        """
        quality: Sequence[Mapping[str, Any]] = self.entry.get("quality") or ()
        return sum(one.get("ranking", one["low"]) for one in quality) / len(quality) if quality else None


def judged_cases(document: Mapping[str, Any], accept: float | None) -> list[JudgedCase]:
    """The cases, what needs a person first, and of each kind the worst first.

    Args:
        document: what ``records.json`` holds.
        accept: the Dice that a mask must have; None sorts by nothing but failures and unusual inputs.
    """
    return sorted((_judged(entry, accept) for entry in document["cases"]), key=_place)


def _judged(entry: Mapping[str, Any], accept: float | None) -> JudgedCase:
    """What to do with a case's mask."""
    quality, check = entry.get("quality"), entry.get("input_check")
    if entry["status"] == "failed":
        return JudgedCase(entry, FAILED, None)
    if quality and accept is not None:
        what, number = judge([(one["low"], one["high"]) for one in quality], accept, check)
        return JudgedCase(entry, what, quality[number])
    return JudgedCase(entry, UNUSUAL if is_unusual(check) else UNSORTED if accept is None else UNKNOWN, None)


def _place(case: JudgedCase) -> tuple[int, float, int]:
    return ORDER.index(case.what), case.ranking or 0.0, case.entry["number"]
