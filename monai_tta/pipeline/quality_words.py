"""What masks are expected to be worth, in words for people and in columns for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from monai_tta.core.record import SURFACE_TOLERANCE, StructureQuality
from monai_tta.reporting.number_format import with_interval

if TYPE_CHECKING:
    from monai_tta.core.record import Case
    from monai_tta.pipeline.mask_labels import LabelNames

_COLUMNS = {
    "dice": "expected Dice",
    "low": "Dice from",
    "high": "Dice to",
    "nsd": "expected NSD",
    "nsd_low": "NSD from",
    "nsd_high": "NSD to",
}

NOT_KNOWN = "what the mask is worth is not known"
WITHIN = f"surface within {SURFACE_TOLERANCE} voxel"


def structure_names(names: LabelNames, head: str) -> dict[int, str]:
    """What a bundle calls the structures of its network, by number from 1.

    Args:
        names: of the channels of its answer.
        head: what the channels stand for; the first of "softmax" is the background.
    """
    first = 0 if head == "softmax" else -1
    return {channel - first: name for channel, name in names.channels.items() if channel > first}


def describe_quality(quality: Sequence[StructureQuality], names: Mapping[int, str] | None = None) -> str:
    """The expected Dice of each structure and what of its surface is expected to be right, with their intervals.

    Args:
        quality: of each structure.
        names: of the structures, by number; None where they are not known.
    """
    dice = []
    surface = []
    for one in quality:
        name = "" if len(quality) == 1 else f"{(names or {}).get(one.structure, f'structure {one.structure}')} "
        dice.append(name + with_interval(one.dice, one.low, one.high))
        surface.append(name + with_interval(one.nsd, one.nsd_low, one.nsd_high))
    return f"expected Dice {', '.join(dice)}; {WITHIN} {', '.join(surface)}"


def quality_in_words(case: Case, names: LabelNames | None = None) -> str | None:
    """What a case's record says of its mask's worth, or why it says nothing; None without a quality predictor.

    Args:
        case: the record.
        names: what the bundle calls its labels.
    """
    if case.quality is None:
        return None if case.quality_note is None else f"{NOT_KNOWN}: {case.quality_note}"
    return describe_quality(case.quality, None if names is None else structure_names(names, case.head))


def quality_of_entry(entry: Mapping[str, Any]) -> str | None:
    """The same as `quality_in_words` of a case on record.

    Args:
        entry: of the case in ``records.json``.
    """
    if entry.get("quality") is None:
        return None if entry.get("quality_note") is None else f"{NOT_KNOWN}: {entry['quality_note']}"
    known = [field.name for field in fields(StructureQuality)]
    quality = [StructureQuality(**{name: one[name] for name in known}) for one in entry["quality"]]
    return describe_quality(quality, {one["structure"]: one["name"] for one in entry["quality"] if one["name"] is not None})


def quality_on_record(case: Case, names: LabelNames) -> dict[str, Any]:
    """The entries of ``records.json`` on what a case's answers are worth, with the structures' names."""
    called = structure_names(names, case.head)

    def entries(quality: Sequence[StructureQuality] | None) -> list[dict[str, Any]] | None:
        return None if quality is None else [{"name": called.get(one.structure), **vars(one)} for one in quality]

    return {"quality": entries(case.quality), "quality_unadapted": entries(case.quality_unadapted)}


def quality_columns(case: Mapping[str, Any]) -> dict[str, float]:
    """The columns of ``records.csv`` on what a case's mask is worth, from its entry in ``records.json``."""
    found: dict[str, float] = {}
    entries = case.get("quality") or []
    named = [one["name"] for one in entries]
    for one in entries:
        is_unique = one["name"] is not None and named.count(one["name"]) == 1
        name = one["name"] if is_unique else f"structure {one['structure']}"
        found |= {f"{name} ({words})": one[key] for key, words in _COLUMNS.items()}
    return found
