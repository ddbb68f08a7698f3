"""Find the case that a user means in the records of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_tta.pipeline.image_names import name_of
from monai_tta.pipeline.match_names import did_you_mean


def recorded_case(document: Mapping[str, Any], case: str, masks: Path) -> Mapping[str, Any]:
    """The entry of the case that is meant.

    Args:
        document: what records.json holds.
        case: the case's name, or a mask's with or without its folder and its ending; in anonymous records the case's number.
        masks: the folder of the records.

    Raises:
        ValueError: for a name that there is not, or that several cases have.
    """
    names: dict[str, list[Mapping[str, Any]]] = {}
    for entry in document["cases"]:
        for name in dict.fromkeys(_names_of(entry)):
            names.setdefault(name, []).append(entry)
    found = names.get(case, [])
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(str(entry.get("name", entry["number"])) for entry in found)
        raise ValueError(f"several cases have {case!r}: {which}; give the name of the case")
    what = (
        "case of this number (anonymous records name none; numbers begin at 0)"
        if document["run"]["anonymous"]
        else "case or mask"
    )
    raise ValueError(
        f"{masks} has no {what} {case!r} on record.{did_you_mean(case, names)} It has {len(document['cases'])} cases"
    )


def _names_of(entry: Mapping[str, Any]) -> list[str]:
    """How a case may be called: by its name, by a mask with or without its folder and its ending, or else by its number."""
    if "name" not in entry:
        return [str(entry["number"])]
    masks = [Path(mask) for mask in entry["masks"]]
    return [entry["name"], *map(str, masks), *(mask.name for mask in masks), *(name_of(mask) for mask in masks)]
