"""How much of each label the source's own cases hold: the ranges that `monai-tta reference` measured, in a record's units."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_tta.guards.reference_ranges import ReferenceRanges, read_reference_ranges, reference_file
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.quality_words import structure_names

_ML = 1000.0  # mm3 in a millilitre


@dataclass(frozen=True)
class LabelRanges:
    """The ranges of a source's labels.

    Args:
        ranges: as `monai-tta reference` measured them; None where nobody did.
        names: what the bundle calls its labels.
    """

    ranges: ReferenceRanges | None = None
    names: LabelNames = field(default_factory=lambda: LabelNames({}))

    def on_record(self, labels: Sequence[Mapping[str, Any]], head: str) -> list[dict[str, Any]]:
        """The labels of a case, each with the ``reference`` of its structure where that is known.

        It is known where the label has a name that no other has, where both the case's amount and the source's are volumes or
        areas (voxels of two grids are not compared), and where the ranges are of as many structures as the network has.

        Args:
            labels: as in a record.
            head: "softmax" or "sigmoid", as the case's record says.
        """
        number_of = {name: number for number, name in structure_names(self.names, head).items()}
        if self.ranges is None or self.ranges.unit != "affine" or len(self.ranges.structures) != len(number_of):
            return [dict(label) for label in labels]
        named = [label["name"] for label in labels]
        return [
            {**label, **self._reference(label, number_of.get(label["name"]) if named.count(label["name"]) == 1 else None)}
            for label in labels
        ]

    def _reference(self, label: Mapping[str, Any], number: int | None) -> dict[str, Any]:
        """The entry of one label, with the number of its structure from 1; empty where nothing is known."""
        known = self.ranges
        volume = None if known is None or number is None else known.structures[number - 1].volume
        if known is None or volume is None or label.get("ml", label.get("mm2")) is None:
            return {}
        unit = _ML if "ml" in label else 1.0
        found = {name: getattr(volume, name) / unit for name in ("low", "middle", "high")}
        return {"reference": {**found, "cases": known.cases, "labelled": known.labelled}}


def read_label_ranges(weights: Path, given: Path | None, names: LabelNames) -> LabelRanges:
    """The ranges for a checkpoint: those that were given, or those beside it; none where there is no file, or it has none.

    Args:
        weights: the checkpoint's file.
        given: what `monai-tta reference` wrote; None for the file beside the checkpoint.
        names: what the bundle calls its labels.

    Raises:
        ValueError: for a file that holds something else.
    """
    file = reference_file(weights) if given is None else given
    if (given is None and not file.is_file()) or _is_for_input_checks_alone(file):
        return LabelRanges(None, names)
    return LabelRanges(read_reference_ranges(file), names)


def _is_for_input_checks_alone(file: Path) -> bool:
    """Whether a file holds figures for input checks and no ranges of structures."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # `read_reference_ranges` says what is wrong with it
        return False
    return isinstance(said, dict) and "structures" not in said and "inputs" in said
