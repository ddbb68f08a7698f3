"""A case of ``records.json`` as rows of tables, for pages and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_tta.reporting.masks_to_use import is_unusual, was_corrected
from monai_tta.reporting.number_format import four_digits, label_amount, with_interval
from monai_tta.reporting.step_curves import COSINE, RATE, loss_name

# What else is on record of a case, by its entry, in words.
FACTS = {
    "method": "method",
    "network": "network",
    "selected": "what may move",
    "n_windows": "windows it adapted on",
    "n_moving": "numbers that may move",
    "weight_distance": "distance from the source's weights",
    "changed_fraction": "share of voxels that changed",
    "precision": "precision",
    "seed": "seed",
    "seconds": "seconds",
    "seconds_unadapted": "of these for the unadapted answer",
}
LOOKS_USUAL = "looks like the source's images"


def expected_words(one: Mapping[str, Any] | None) -> str:
    """The expected Dice of a structure with its interval; "" where nothing is known.

    Args:
        one: an entry of a case's ``quality``.
    """
    return "" if one is None else with_interval(one["dice"], one["low"], one["high"])


def structure_name(one: Mapping[str, Any]) -> str:
    """What a structure is called, or its number.

    Args:
        one: an entry of a case's ``quality``.
    """
    return str(one["name"] or f"structure {one['structure']}")


def surface_words(one: Mapping[str, Any] | None) -> str:
    """The share of a structure's surface that is expected to be right; "" where nothing is known, as in older records.

    Args:
        one: an entry of a case's ``quality``.
    """
    return with_interval(one["nsd"], one["nsd_low"], one["nsd_high"]) if one and "nsd" in one else ""


def unusual_input(input_check: str | None) -> str:
    """What is unusual about an input, and what was done about it; "" where nothing is.

    Args:
        input_check: as on record.
    """
    found = (input_check or "").partition(": ")[2]
    if was_corrected(input_check):
        return f"its input was unlike the source's images, and was corrected first: {found}"
    return f"its input is {found}; it was not corrected" if is_unusual(input_check) else ""


def input_words(entry: Mapping[str, Any]) -> str:
    """What is known of a case's input; "" for older records, which do not say whether it was checked, or say so in ``in_words``.

    Args:
        entry: of the case.
    """
    if "input_checked" not in entry:
        return ""
    return unusual_input(entry["input_check"]) or (
        f"its input {LOOKS_USUAL}" if entry["input_checked"] else "its input was not checked"
    )


def fact_rows(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else is on record of a case, in words and with four digits. What did not happen, such as 0 windows, is left out.

    Args:
        entry: of the case.
    """
    return [
        (words, four_digits(entry[key])) for key, words in FACTS.items() if entry.get(key) or (key, entry.get(key)) == ("seed", 0)
    ]


def quality_rows(entry: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """For each structure its name, and Dice and surface that are expected of the mask, and of the unadapted answer.

    Args:
        entry: of the case.
    """
    before = {one["structure"]: one for one in entry.get("quality_unadapted") or ()}
    rows = []
    for one in entry.get("quality") or ():
        other = before.get(one["structure"])
        rows.append((structure_name(one), expected_words(one), surface_words(one), expected_words(other), surface_words(other)))
    return rows


def label_rows(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """For each label its name, how much of it there is, and how much the source's cases hold ("" where that is not known).

    Args:
        entry: of the case.
    """
    return [(label["name"] or f"value {label.get('value')}", _amount(label), _source_words(label)) for label in entry["labels"]]


def step_rows(entry: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The columns and the rows of a method's steps: each loss, the cosine and the learning rate; "" for what is not there.

    A step that measured none of these, as one of `Careful`, has no row.

    Args:
        entry: of the case.
    """
    steps = entry.get("steps") or ()
    losses = list(dict.fromkeys(name for step in steps for name in step["losses"]))
    rows = []
    for number, step in enumerate(steps, 1):
        values = [*(step["losses"].get(name) for name in losses), step["cosine"], step["lr"] or None]
        if any(value is not None for value in values):
            rows.append([str(number), *("" if value is None else f"{value:.4g}" for value in values)])
    return ["step", *map(loss_name, losses), COSINE, RATE], rows


def _amount(label: Mapping[str, Any]) -> str:
    """How much of a label there is, with its unit."""
    amount, unit = label_amount(label)
    return f"{_digits(amount)} {_unit(unit)}" if unit in ("ml", "mm2") else f"{amount} {unit}"


def _source_words(label: Mapping[str, Any]) -> str:
    """The range of 90 % of the source's cases, and whether the label lies outside."""
    known = label.get("reference")
    if known is None:
        return ""
    amount, unit = label_amount(label)
    where = "; this is less" if amount < known["low"] else "; this is more" if amount > known["high"] else ""
    how = "" if known["labelled"] else ", by the network's own answers"
    return f"{_digits(known['low'])} to {_digits(known['high'])} {_unit(unit)}{how}{where}"


def _digits(size: float) -> str:
    """A volume or an area with three digits, or as a whole number."""
    return f"{size:.0f}" if size >= 100 or not size else f"{size:#.3g}"


def _unit(unit: str) -> str:
    return unit.replace("mm2", "mm²")
