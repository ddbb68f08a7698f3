"""Reference ranges: in which ranges a few figures of the source's own cases lie. Written to JSON and read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from monai_tta.compute.number_files import beside_checkpoint
from monai_tta.guards.shape_features import SMALL, ShapeFeatures


@dataclass(frozen=True)
class Quantiles:
    """The range of 90 % of the source's cases: the 5 %, 50 % and 95 % quantiles of a figure, in the figure's unit."""

    low: float
    middle: float
    high: float

    def limits(self, slack: float, least: float = 0.0) -> tuple[float, float]:
        """The range, widened on both sides by ``slack`` times its width.

        Args:
            slack: at least 0; 0 is the range itself.
            least: the width counts as at least this, and as at least a tenth of the middle, in the figure's unit.
        """
        more = slack * max(self.high - self.low, least, abs(self.middle) / 10)
        return self.low - more, self.high + more


@dataclass(frozen=True, kw_only=True)
class StructureRanges:
    """The shape of one structure in the source's cases that show it (see `ShapeFeatures`); None where no case shows it."""

    volume: Quantiles | None
    components: Quantiles | None
    elongation: Quantiles | None
    compactness: Quantiles | None


@dataclass(frozen=True)
class CaseFigures:
    """The figures of one case of the source.

    Args:
        shapes: the shape of each structure.
        entropy: of the answer, in nats per voxel.
        distances: of each layer's statistics from the source's, in the source's standard deviations.
        unit: of lengths in the shapes, see `ReferenceRanges`.
    """

    shapes: tuple[ShapeFeatures, ...]
    entropy: float
    distances: tuple[float, ...]
    unit: Literal["affine", "voxel"]


@dataclass(frozen=True, kw_only=True)
class ReferenceRanges:
    """The ranges in which the figures of the source's own cases lie.

    Args:
        cases: how many cases were measured.
        unit: of lengths: "affine" is the unit of the images' affines (mm in NIfTI and DICOM), "voxel" where they had none.
        labelled: whether structures were measured in labels (True) or in the network's answers (False).
        structures: the shape of each structure, without background.
        entropy: of the answers, in nats per voxel.
        distances: of each layer's statistics from the source's, in the source's standard deviations; empty for a network without
            running statistics.
        small: components of fewer voxels were not counted.
    """

    cases: int
    unit: Literal["affine", "voxel"]
    labelled: bool
    structures: tuple[StructureRanges, ...]
    entropy: Quantiles
    distances: tuple[Quantiles, ...]
    small: int = SMALL

    def to_json(self) -> str:
        """One JSON object, indented for readers."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ReferenceRanges:
        """Read what `to_json` wrote; equal to the original.

        Args:
            text: a JSON object.

        Raises:
            ValueError: for a text that is no JSON object of reference ranges.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            raw.pop("inputs", None)  # what the same file holds for input checks
            raw["structures"] = tuple(
                StructureRanges(**{k: None if v is None else Quantiles(**v) for k, v in one.items()}) for one in raw["structures"]
            )
            raw["distances"] = tuple(Quantiles(**one) for one in raw["distances"])
            raw["entropy"] = Quantiles(**raw["entropy"])
            return cls(**raw)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"no reference ranges: {error}; write some with `monai-tta reference`") from error


def ranges_of_cases(cases: Sequence[CaseFigures], labelled: bool, small: int = SMALL) -> ReferenceRanges:
    """Reference ranges from measured cases of the source.

    Args:
        cases: at least one; quantiles of 5 % mean little with fewer than twenty.
        labelled: whether structures were measured in labels.
        small: components of fewer voxels were not counted.

    Raises:
        ValueError: for no case, for cases that differ in unit or in the number of structures or layers, or where no case has a
            finite entropy or distance.
    """
    if not cases:
        raise ValueError("reference ranges need at least one case of the source, found none")
    kinds = {(c.unit, len(c.shapes), len(c.distances)) for c in cases}
    if len(kinds) > 1:
        raise ValueError(
            f"cases differ in (unit, number of structures, number of layers): {sorted(kinds)}; "
            "reference ranges need cases of one kind"
        )
    ((unit, _, _),) = kinds
    return ReferenceRanges(
        cases=len(cases),
        unit=unit,
        labelled=labelled,
        structures=tuple(_structure([f for f in shapes if f.volume]) for shapes in zip(*(c.shapes for c in cases), strict=True)),
        entropy=_known_quantiles([c.entropy for c in cases]),
        distances=tuple(_known_quantiles(d) for d in zip(*(c.distances for c in cases), strict=True)),
        small=small,
    )


def reference_file(weights: Path) -> Path:
    """Where the reference ranges of a checkpoint are kept: beside its file of weights.

    Args:
        weights: the checkpoint's file of weights.
    """
    return beside_checkpoint(weights, "reference", ".json")


def read_reference_ranges(path: str | PathLike[str]) -> ReferenceRanges:
    """Reference ranges from a file that `monai-tta reference` wrote.

    In a MONAI config: ``{_target_: monai_tta.guards.read_reference_ranges, path: reference.json}``.

    Args:
        path: the file.

    Raises:
        ValueError: for a file that is missing or holds something else.
    """
    try:
        return ReferenceRanges.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"no reference ranges in {path}: {error.strerror}; write some with `monai-tta reference`") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _structure(shown: Sequence[ShapeFeatures]) -> StructureRanges:
    """The ranges of one structure's shapes."""
    names = ("volume", "components", "elongation", "compactness")
    return StructureRanges(**{name: _quantiles([getattr(f, name) for f in shown]) for name in names})


def _quantiles(values: Sequence[float]) -> Quantiles | None:
    """The quantiles of the finite values; None where there are none."""
    known = [v for v in values if isfinite(v)]
    return Quantiles(*(float(q) for q in np.quantile(known, (0.05, 0.5, 0.95)))) if known else None


def _known_quantiles(values: Sequence[float]) -> Quantiles:
    """The quantiles of values of which at least one must be finite."""
    quantiles = _quantiles(values)
    if quantiles is None:
        raise ValueError("the source's own cases have no finite figure: check the images and the network's weights")
    return quantiles
