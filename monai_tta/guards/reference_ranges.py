"""What the source's own cases are like: quantiles of a few figures that every case has, labelled or not, JSON both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from monai_tta.guards.shape_features import SMALL, ShapeFeatures


@dataclass(frozen=True)
class Quantiles:
    """Where 90 % of the source's cases lie: the 5 %, 50 % and 95 % quantiles of a figure, in the figure's unit."""

    low: float
    middle: float
    high: float

    def limits(self, slack: float, least: float = 0.0) -> tuple[float, float]:
        """The range widened on either side.

        Args:
            slack: by how many of its own widths.
            least: what the width is taken for where it is less than that, or than a tenth of the middle.
        """
        more = slack * max(self.high - self.low, least, abs(self.middle) / 10)
        return self.low - more, self.high + more


@dataclass(frozen=True, kw_only=True)
class StructureRanges:
    """How one structure is shaped in the source's cases that show it (see `ShapeFeatures`); None where none does."""

    volume: Quantiles | None
    components: Quantiles | None
    elongation: Quantiles | None
    compactness: Quantiles | None


@dataclass(frozen=True)
class CaseFigures:
    """One source case measured: its structures' forms, the answer's entropy in nats per voxel, the distance of each layer's
    statistics from the source's in the source's deviations, and the unit of length of the forms."""

    shapes: tuple[ShapeFeatures, ...]
    entropy: float
    distances: tuple[float, ...]
    unit: Literal["affine", "voxel"]


@dataclass(frozen=True, kw_only=True)
class ReferenceRanges:
    """What the source's own cases are like.

    ``unit`` is that of lengths: "affine" is what the image's affine counts in (mm in NIfTI and DICOM), "voxel" where the cases
    had no affine. Pieces of fewer than ``small`` voxels were not counted. ``labelled`` says whether structures were measured in
    labels or in the network's answers.
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
        """Read `to_json` back; equal to what was written.

        Raises:
            ValueError: when the text is no JSON object of norms.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["structures"] = tuple(
                StructureRanges(**{k: None if v is None else Quantiles(**v) for k, v in one.items()}) for one in raw["structures"]
            )
            raw["distances"] = tuple(Quantiles(**one) for one in raw["distances"])
            raw["entropy"] = Quantiles(**raw["entropy"])
            return cls(**raw)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the norms of a source: {error}; write some with `monai-tta reference`") from error


def ranges_of_cases(cases: Sequence[CaseFigures], labelled: bool, small: int = SMALL) -> ReferenceRanges:
    """Norms from measured source cases; twenty or more make a quantile of 5 % mean something.

    Raises:
        ValueError: for no case, or cases of several units, structures or layers.
    """
    if not cases:
        raise ValueError("norms need at least one source case, found none")
    kinds = {(c.unit, len(c.shapes), len(c.distances)) for c in cases}
    if len(kinds) > 1:
        raise ValueError(f"cases differ in (unit, number of structures, number of layers): {sorted(kinds)}; norms need one kind")
    ((unit, _, _),) = kinds
    return ReferenceRanges(
        cases=len(cases),
        unit=unit,
        labelled=labelled,
        structures=tuple(_structure([f for f in shapes if f.volume]) for shapes in zip(*(c.shapes for c in cases), strict=True)),
        entropy=_needed(_quantiles([c.entropy for c in cases])),
        distances=tuple(_needed(_quantiles(list(d))) for d in zip(*(c.distances for c in cases), strict=True)),
        small=small,
    )


def _structure(shown: Sequence[ShapeFeatures]) -> StructureRanges:
    names = ("volume", "components", "elongation", "compactness")
    return StructureRanges(**{name: _quantiles([getattr(f, name) for f in shown]) for name in names})


def _quantiles(values: Sequence[float]) -> Quantiles | None:
    known = [v for v in values if isfinite(v)]
    return Quantiles(*(float(q) for q in np.quantile(known, (0.05, 0.5, 0.95)))) if known else None


def _needed(spread: Quantiles | None) -> Quantiles:
    if spread is None:
        raise ValueError("the source's own cases have no finite figure: check the images and the network's weights")
    return spread


def read_reference_ranges(path: str | PathLike[str]) -> ReferenceRanges:
    """Norms from a file that `monai-tta reference` wrote; for configs, ``_target_: monai_tta.guards.read_norms``.

    Raises:
        ValueError: when the file is missing or holds something else.
    """
    try:
        return ReferenceRanges.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"no norms in {path}: {error.strerror}; write some with `monai-tta reference`") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
