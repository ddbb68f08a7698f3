"""What a person must know first of a run, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_tta.reporting.judged_case import JudgedCase
from monai_tta.reporting.masks_to_use import LOOK, REFUSE, USE
from monai_tta.reporting.number_format import counted, number_of, wanted_dice

CALIBRATE = "The command monai-tta calibrate makes what it takes to know."


def verdict(cases: Sequence[JudgedCase], run: Mapping[str, Any], accept: float | None) -> list[str]:
    """The sentences, the most important first. Masks are counted among those that there are.

    Args:
        cases: of the run.
        run: its entry in ``records.json``.
        accept: the Dice that a mask must have; None where none was named.
    """
    with_mask = [case for case in cases if case.has_mask]
    said = [_usable(with_mask, accept)] if with_mask else ["There is no mask to use."]
    if failed := len(cases) - len(with_mask):
        said.append(f"{counted(failed, len(cases), 'images')} failed and {'has' if failed == 1 else 'have'} no mask.")
    if not run["finished"]:
        said.append(
            f"The run was stopped: {len(cases)} of {run['images']} images have been done. The same command goes on with it."
        )
    if with_mask:
        said += [*_inputs(with_mask), _adapted(with_mask)]
    return said


def _usable(cases: Sequence[JudgedCase], accept: float | None) -> str:
    """How many masks can be used."""
    if accept is None or not any(case.expected for case in cases):
        return f"What the masks are worth is not known: look at each. {CALIBRATE}"
    use, look, refuse = (sum(case.what.startswith(what) for case in cases) for what in (USE, LOOK, REFUSE))
    return (
        f"For a Dice of {wanted_dice(accept)} or more: {counted(use, len(cases), 'masks')} can be used as "
        f"{'it is' if use == 1 else 'they are'}, {look} must be looked at, {refuse} should not be used."
    )


def _inputs(cases: Sequence[JudgedCase]) -> list[str]:
    """What the checks of the inputs found."""
    said = []
    if unusual := sum(case.is_unusual for case in cases):
        said.append(
            f"{counted(unusual, len(cases), 'masks')} {'is of an image that does' if unusual == 1 else 'are of images that do'} "
            "not look like the source's: what is expected of such a mask is not to be relied on."
        )
    if corrected := sum(case.was_corrected for case in cases):
        said.append(f"{number_of(corrected, 'images')} did not look like the source's and {_was(corrected)} corrected first.")
    if unchecked := sum(case.entry.get("input_checked") is False for case in cases):
        said.append(
            f"The {'image' if unchecked == 1 else 'images'} of {number_of(unchecked, 'masks')} {_was(unchecked)} not checked."
        )
    return said


def _adapted(cases: Sequence[JudgedCase]) -> str:
    """How many masks are adapted ones."""
    adapted = sum(case.entry["status"] == "adapted" for case in cases)
    if not adapted:
        return "No mask is adapted to its image: all are the network's own."
    if adapted == len(cases):
        return "Every mask is adapted to its image."
    said = f"{counted(adapted, len(cases), 'masks')} {'is adapted to its' if adapted == 1 else 'are adapted to their'} image"
    others = len(cases) - adapted
    return f"{said}; the other{f' {others} are' if others > 1 else ' is'} the network's own."


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
