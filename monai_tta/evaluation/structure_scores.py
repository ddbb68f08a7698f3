"""Scores of overlapping structures as SegRap2023 counts them, one structure at a time and on the image's own grid."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.metrics import CumulativeIterationMetric, compute_surface_dice
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

from monai_tta.core.geometry import voxel_spacing
from monai_tta.transforms.headneck import STRUCTURES, TOLERANCES, structure_mask
from monai_tta.transforms.headneck_masks import masks_in_file

DIGITS = 4  # the challenge rounds each score


def dice_and_nsd(pred: Tensor, label: Tensor, spacing: Sequence[float], tolerance: float) -> tuple[float, float]:
    """Dice and NSD of one structure, rounded to four digits.

    NSD (Nikolov et al., arXiv 1809.04430) is the share of both surfaces that lies within the tolerance of the other. A surface is
    made of elements between 2 x 2 x 2 voxels, which count by their area. `monai_tta.evaluation.scoring` counts voxels instead.

    Args:
        pred: ``(x, y, z)``, of truth values.
        label: of the same shape.
        spacing: a voxel's size along each axis, in mm.
        tolerance: in mm.

    Returns:
        both, in [0, 1]: 1 and 1 where neither mask has a voxel, 0 and 0 where one has none.
    """
    if not bool(pred.any()) or not bool(label.any()):
        agree = float(bool(pred.any()) == bool(label.any()))
        return agree, agree
    dice = 2 * int((pred & label).sum()) / (int(pred.sum()) + int(label.sum()))
    found, truth = (mask[None, None].float() for mask in _around_both(pred, label))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)  # of MONAI 1.6's calls to itself
        nsd = compute_surface_dice(found, truth, [tolerance], include_background=True, spacing=list(spacing), use_subvoxels=True)
    return round(dice, DIGITS), round(float(nsd), DIGITS)


def _around_both(pred: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both masks, cut to the box around them and one voxel more; a mask at the edge of the scan gets a border of background.

    Without it a surface at the edge of the scan would not close.
    """
    filled = (pred | label).nonzero()
    box = tuple(slice(low, high + 1) for low, high in zip(filled.amin(0).tolist(), filled.amax(0).tolist(), strict=True))
    first, second = (torch.nn.functional.pad(mask[box], [1] * 2 * mask.ndim) for mask in (pred, label))
    return first, second


class ScoreStructuresd(MapTransform):
    """Put scores in the place of the probabilities of 47 structures. The label are codes, see `monai_tta.transforms.headneck`.

    Answers are brought back to the grid of the label's file, whose spacing is in mm. One structure is in memory at a time.

    Args:
        keys: of probabilities ``(47, *spatial)``. They are removed.
        transform: the preprocessing of the image, which is undone.
        label_key: of the codes ``(2, x, y, z)``, as the label's file has them.
        orig_keys: of the image.
        tolerances: of NSD, in mm, one for each structure.
        threshold: above it is inside.

    The new entries "dice" and "nsd" are ``(47,)``, float64.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: InvertibleTransform,
        label_key: str = "label",
        orig_keys: str = "image",
        tolerances: Sequence[float] = TOLERANCES,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(keys)
        self.transform = transform
        self.label_key = label_key
        self.orig_keys = orig_keys
        self.tolerances = tuple(tolerances)
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the scores."""
        key = self.keys[0]
        codes = data[self.label_key]
        spacing = voxel_spacing(codes, 3) or (1.0, 1.0, 1.0)
        plain = torch.as_tensor(codes).as_subclass(Tensor).cpu()
        answers = masks_in_file(data, key, self.orig_keys, self.transform, self.threshold)
        rows = []
        for place, (answer, tolerance) in enumerate(zip(answers, self.tolerances, strict=True)):
            found = answer[0].as_subclass(Tensor).cpu()
            rows.append(dice_and_nsd(found, structure_mask(plain, place), spacing, tolerance))
        scores = torch.tensor(rows, dtype=torch.float64)
        left = {name: value for name, value in data.items() if name != key}
        return left | {"dice": scores[:, 0], "nsd": scores[:, 1]}


class GivenScores(CumulativeIterationMetric):
    """A MONAI metric of scores that are computed already: it keeps ``(N, K)`` as it is and averages over all."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        return y_pred

    def aggregate(self) -> Tensor:
        """The mean over cases and structures."""
        found: Any = self.get_buffer()
        return torch.as_tensor(found).mean()


def write_structure_table(folder: Path | str, details: Mapping[str, Tensor]) -> Path:
    """Write ``structures.csv``: each structure's mean scores over the cases, and the means of organs and of tumours.

    Args:
        folder: where to.
        details: scores ``(cases, 47)`` by the metric's name.
    """
    means = {name: torch.as_tensor(scores).mean(0) for name, scores in details.items()}
    file = Path(folder) / "structures.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    groups = {"organs": slice(0, -2), "tumours": slice(-2, None)}
    rows = [[name, *(f"{mean[place]:.4f}" for mean in means.values())] for place, name in enumerate(STRUCTURES)]
    rows += [[f"mean of {name}", *(f"{mean[part].mean():.4f}" for mean in means.values())] for name, part in groups.items()]
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["structure", *means], *rows])
    return file
