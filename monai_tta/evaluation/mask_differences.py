"""How two masks of one case differ: voxels, grid, and each label's Dice and volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_tta.evaluation.scoring import scores_of
from monai_tta.pipeline.case_file import grid_of
from monai_tta.pipeline.declared_place import TOLERANCE, voxels_apart
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.mask_labels import UnknownLabels, count_values, read_mask

Label = Mapping[str, Any]


class IncomparableMasks(ValueError):
    """Masks of which nobody can say voxel by voxel how they differ, because their grids or numbers differ."""


@dataclass(frozen=True)
class LabelDifference:
    """How one label differs between two masks.

    Args:
        name: the bundle's name for it, else where it is in the mask.
        dice: of the two masks, in [0, 1]; 1 where neither has any of it.
        amounts: how much of it each mask holds, in ``unit``.
        unit: ml or mm2 where the size of a voxel is known, else voxels or pixels.
    """

    name: str
    dice: float
    amounts: tuple[float, float]
    unit: str


@dataclass(frozen=True)
class MaskDifferences:
    """How the masks of one case differ.

    Args:
        n_voxels: how many voxels, over all masks and channels, were compared.
        n_different: how many of them differ.
        labels: those that the records or the masks name.
        notes: what else differs, in words: the type of the numbers, or where the grid lies by less than a tenth of a voxel.
    """

    n_voxels: int
    n_different: int
    labels: tuple[LabelDifference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the masks are the same, bit for bit, on the same grid."""
        return self.n_different == 0 and not self.notes

    @property
    def worst(self) -> float:
        """The lowest Dice of a label; 1 where there are no labels."""
        return min((label.dice for label in self.labels), default=1.0)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"same": self.same, **asdict(self)}


def compare_masks(
    masks: Sequence[Path], others: Sequence[Path], labels: Sequence[Label], other_labels: Sequence[Label] = ()
) -> MaskDifferences:
    """Compare the masks of one case with others of the same case.

    Args:
        masks: the files.
        others: the other files, in the same order.
        labels: what the case's record says of the labels in ``masks``.
        other_labels: the same of ``others``.

    Raises:
        IncomparableMasks: for another number of files, or grids of which one is not the other.
        UnknownLabels: for a file that cannot be read.
    """
    if len(masks) != len(others):
        raise IncomparableMasks(f"there are {len(masks)} masks and {len(others)}")
    found = [_compare_files(*pair, labels, other_labels) for pair in zip(masks, others, strict=True)]
    return MaskDifferences(
        sum(one.n_voxels for one in found),
        sum(one.n_different for one in found),
        tuple(label for one in found for label in one.labels),
        tuple(dict.fromkeys(note for one in found for note in one.notes)),
    )


def _compare_files(path: Path, other_path: Path, labels: Sequence[Label], other_labels: Sequence[Label]) -> MaskDifferences:
    mask, other = read_mask(path), read_mask(other_path)
    if mask.voxels.shape != other.voxels.shape:
        sizes = " and ".join("x".join(map(str, one.voxels.shape)) for one in (mask, other))
        raise IncomparableMasks(f"the masks have {sizes} voxels and channels")
    notes = _notes_on_grids(path, other_path)
    if mask.voxels.dtype != other.voxels.dtype:
        notes.append(f"the masks hold {mask.voxels.dtype} and {other.voxels.dtype}")
    differs = mask.voxels != other.voxels
    if mask.voxels.dtype.kind == other.voxels.dtype.kind == "f":
        differs &= ~(np.isnan(mask.voxels) & np.isnan(other.voxels))
    named = [*_labels_of_file(labels, path), *_labels_of_file(other_labels, other_path)]
    has_size = mask.size is not None and not any(_without_size(label) for label in named)
    counted = "pixels" if mask.flat else "voxels"
    unit, size = (("mm2" if mask.flat else "ml"), mask.size or 1.0) if has_size else (counted, 1)
    compared = [
        _compare_label(name, value, channel, mask.voxels, other.voxels, differs, unit, size)
        for name, value, channel in _places(named, mask.voxels, other.voxels)
    ]
    return MaskDifferences(differs.size, int(differs.sum()), tuple(compared), tuple(notes))


def _compare_label(
    name: str,
    value: int | None,
    channel: int,
    voxels: NDArray[Any],
    others: NDArray[Any],
    differs: NDArray[np.bool_],
    unit: str,
    size: float,
) -> LabelDifference:
    """Compare one label. ``value`` is None where every value that is not 0 means it."""
    one, two = ((part[..., channel] != 0 if value is None else part[..., channel] == value) for part in (voxels, others))
    amounts = (int(one.sum()) * size, int(two.sum()) * size)
    is_touched = bool(((one != two) & differs[..., channel]).any())
    return LabelDifference(name, _dice(one, two) if is_touched else 1.0, amounts, unit)


def _dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """The Dice of two binary masks that differ; 0 where one of them is empty."""
    (score,) = scores_of({"pred": torch.from_numpy(one)[None], "label": torch.from_numpy(two)[None]}, ("dice",))
    return 0.0 if isnan(score.dice) else score.dice


def _places(labels: Sequence[Label], voxels: NDArray[Any], others: NDArray[Any]) -> Iterator[tuple[str, int | None, int]]:
    """Name, value and channel of each label: those on record, then each further value that one of the masks holds."""
    seen: dict[tuple[int | None, int], str] = {}
    for label in labels:
        seen.setdefault((label.get("value"), label.get("channel", 0)), str(label["name"] or _place_in_words(label)))
    for (value, channel), name in seen.items():
        yield name, value, channel
    if voxels.shape[-1] > 1 or any(value is None for value, _ in seen):
        return
    try:
        values = sorted({*count_values(voxels), *count_values(others)} - {0, *(value for value, _ in seen if value is not None)})
    except UnknownLabels:  # fractions, or numbered objects
        yield "all that is not 0", None, 0
        return
    for value in values:
        yield f"value {value}", value, 0


def _place_in_words(label: Label) -> str:
    return " ".join(f"{key} {label[key]}" for key in ("channel", "value") if key in label) or "mask"


def _labels_of_file(labels: Sequence[Label], path: Path) -> list[Label]:
    return [label for label in labels if label.get("file", path.name) == path.name]


def _without_size(label: Label) -> bool:
    return label.get("mm2" if "pixels" in label else "ml") is None


def _notes_on_grids(path: Path, other: Path) -> list[str]:
    """What is to be said of two grids that are nearly the same.

    Raises:
        IncomparableMasks: for grids that are not.
    """
    if path.name.lower().endswith(PICTURES) and other.name.lower().endswith(PICTURES):
        return []
    try:
        (shape, affine, _), (other_shape, other_affine, _) = grid_of(path), grid_of(other)
        if shape == other_shape and np.array_equal(affine, other_affine):
            return []
        far = voxels_apart(affine, other_affine, shape) if shape == other_shape else np.inf
    except np.linalg.LinAlgError as error:
        raise IncomparableMasks("the header of a mask does not say where its voxels lie") from error
    if not far <= TOLERANCE:
        raise IncomparableMasks(f"the masks lie on different grids, up to {far:.3g} voxels apart")
    return [f"the masks lie up to {far:.2g} voxels apart"]
