"""Scribbles: a few marked voxels per class become soft labels that fade with the distance (MaCo; arXiv 2408.12814)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import inf, log
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from monai_tta.transforms.keyed import with_meta_of


class ScribbleToSoftLabel(Transform):
    """Soft labels and a weight for each voxel, from scribbles and the distance to them.

    With the distance d_c of a voxel to the nearest scribble of class c, in mm, and a = ln 2 / ``half_distance``:
    label ``t_c = exp(-a d_c) / sum_k exp(-a d_k)`` and weight ``w = max_c exp(-a d_c)``. Beside a scribble the label is almost
    sure and the weight 1; half a distance away the weight is a half, and far from every scribble it is 0.

    These are MaCo's continuous pseudo-labels (arXiv 2408.12814) as a reconstruction: published is that labels decay
    exponentially with the distance. The division by the sum, the weight and the half distance are ours.

    The label knows distances, not edges: where no scribble is near, its border lies halfway between the scribbles. Take a half
    distance that is shorter than from a scribble to the organ's edge, and scribble on both sides of edges that matter. A class
    without a scribble gets label 0 everywhere. Near the scribbles of others that is right; far from them the weight is 0.

    Args:
        values: the value that each class has in the scribble, in the order of the classes: ``(0, 1, 2)``, or ``(3, 1, 2)`` where
            the background was painted with a 3 because 0 means nothing painted.
        half_distance: the distance from a scribble at which the weight is a half, in mm (in the unit of ``spacing``), above 0.
        unmarked: the value of voxels that nobody marked.
        channels: for a network whose structures may overlap: for each output channel, the values in it. ``((1, 2), (2,))`` makes
            two nested channels, as of disc with cup and cup. None makes one channel for each class.
        spacing: mm per voxel along each axis; None takes it from the scribble's affine.
        missing: what a class without a scribble means: "absent" as above, or "error".

    Raises:
        ValueError: for choices that do not fit each other, or out of range.
    """

    def __init__(
        self,
        values: Sequence[int],
        half_distance: float = 2.0,
        unmarked: int = 0,
        channels: Sequence[Sequence[int]] | None = None,
        spacing: Sequence[float] | None = None,
        missing: Literal["absent", "error"] = "absent",
    ) -> None:
        if len(values) < 2 or len({*values, unmarked}) <= len(values):
            raise ValueError(f"values are different for two classes or more, and unmarked is another; found {values}, {unmarked}")
        if not 0 < half_distance < inf or any(step <= 0 for step in spacing or ()):
            raise ValueError(f"half_distance and spacing are above 0, found {half_distance} and {spacing}")
        if unknown := {value for channel in channels or () for value in channel} - {*values}:
            raise ValueError(f"channels name {sorted(unknown)}, which no class has: values are {tuple(values)}")
        if missing not in ("absent", "error"):
            raise ValueError(f"missing is 'absent' or 'error', found {missing!r}")
        self.values = tuple(values)
        self.half_distance = half_distance
        self.unmarked = unmarked
        self.channels = None if channels is None else [[self.values.index(value) for value in channel] for channel in channels]
        self.spacing = None if spacing is None else tuple(spacing)
        self.missing = missing

    def __call__(self, scribble: Tensor) -> tuple[Tensor, Tensor]:
        """Label ``(K, *spatial)`` in [0, 1] and weight ``(1, *spatial)`` in [0, 1], float32, from a scribble ``(1, *spatial)``.

        Raises:
            ValueError: for another shape or other values, scribbles of one class alone, or a spacing that is not known.
        """
        plain = torch.as_tensor(scribble).detach()
        marks = plain.cpu().numpy()
        if marks.ndim not in (3, 4) or marks.shape[0] != 1:
            raise ValueError(f"a scribble has one channel and two or three axes, found shape {marks.shape}")
        self._check_values(marks)
        spacing = self._spacing_of(scribble, marks.ndim - 1)
        decay = np.stack([self._decay(marks[0] == value, spacing) for value in self.values])
        weight = decay.max(0, keepdims=True)
        # Where all have decayed to nothing, no class is likelier than another, and the weight is 0.
        label = np.divide(decay, decay.sum(0), out=np.full_like(decay, 1 / len(decay)), where=weight > 0)
        if self.channels is not None:
            label = np.stack([label[channel].sum(0) for channel in self.channels])
        both = (torch.from_numpy(part.astype(np.float32)).to(plain.device) for part in (label, weight))
        soft_label, soft_weight = (with_meta_of(part, scribble) for part in both)
        return soft_label, soft_weight

    def _check_values(self, marks: NDArray[Any]) -> None:
        """Refuse values that mean nothing, and scribbles that say nothing of where a class ends."""
        found = {float(value) for value in np.unique(marks)} - {float(self.unmarked)}
        if unknown := found - {float(value) for value in self.values}:
            some = ", ".join(f"{value:g}" for value in sorted(unknown)[:5])
            raise ValueError(
                f"the scribble holds {some}, which stand for no class: values are {self.values}, and {self.unmarked} is unmarked"
            )
        if len(found) < 2:
            which = "nothing is scribbled" if not found else f"{found.pop():g} alone is scribbled"
            raise ValueError(
                f"{which}: scribble on two classes at least, else nothing says where one ends; background is a class"
            )
        if self.missing == "error" and (missed := [value for value in self.values if value not in found]):
            raise ValueError(f"there is no scribble of {missed}; scribble on each class, or choose missing='absent'")

    def _spacing_of(self, scribble: Tensor, dims: int) -> tuple[float, ...]:
        """Mm per voxel along each axis."""
        if self.spacing is None and not isinstance(scribble, MetaTensor):
            raise ValueError("a tensor without meta data has no voxel size; give spacing")
        spacing = tuple(float(step) for step in scribble.pixdim[:dims]) if self.spacing is None else self.spacing  # type: ignore[attr-defined]
        if len(spacing) != dims:
            raise ValueError(f"spacing {spacing} is for {len(spacing)} axes, and the scribble has {dims}")
        return spacing

    def _decay(self, marked: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float64]:
        """``exp(-a d)`` for the distance d to the nearest marked voxel; 0 where none is marked."""
        if not marked.any():
            return np.zeros(marked.shape)
        distance: NDArray[np.float64] = distance_transform_edt(~marked, sampling=spacing)
        return np.exp(-log(2) / self.half_distance * distance)


class ScribbleToSoftLabeld(MapTransform):
    """Add soft labels and their weight, made of the scribble under a key, under keys of their own (`ScribbleToSoftLabel`).

    Put it before transforms that resample: a thin scribble may fall between coarser voxels, while soft labels can be resampled
    linearly.

    Args:
        keys: the scribble's key.
        values: see `ScribbleToSoftLabel`, as the others.
        half_distance: in mm.
        unmarked: the value of unmarked voxels.
        channels: the values in each output channel, for structures that may overlap.
        spacing: mm per voxel; None for the affine's.
        missing: "absent" or "error".
        label_key: the key of the label ``(K, *spatial)``.
        weight_key: the key of the weight ``(1, *spatial)``.

    Raises:
        ValueError: for more than one key, and as `ScribbleToSoftLabel`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        values: Sequence[int],
        half_distance: float = 2.0,
        unmarked: int = 0,
        channels: Sequence[Sequence[int]] | None = None,
        spacing: Sequence[float] | None = None,
        missing: Literal["absent", "error"] = "absent",
        label_key: str = "soft_label",
        weight_key: str = "weight",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"one scribble makes one label; found keys {self.keys}")
        self.transform = ScribbleToSoftLabel(values, half_distance, unmarked, channels, spacing, missing)
        self.label_key = label_key
        self.weight_key = weight_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with label and weight; the scribble stays."""
        label, weight = self.transform(data[self.keys[0]])
        return dict(data) | {self.label_key: label, self.weight_key: weight}
