"""How large an image's voxels are, by its affine, and how its slices are looked at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def voxel_spacing(image: Any, dims: int) -> tuple[float, ...] | None:
    """A voxel's size along each spatial axis, in the unit of the image's affine (mm in NIfTI and DICOM).

    Args:
        image: anything that may have an ``affine`` (a MetaTensor), of one image or of a batch of one.
        dims: how many spatial axes the image has.

    Returns:
        ``dims`` numbers; None for an image without an affine, or with one of fewer axes.
    """
    affine = getattr(image, "affine", None)
    if affine is None:
        return None
    axes = torch.as_tensor(affine, dtype=torch.float64).reshape(-1, *affine.shape[-2:])[0, :-1, :-1]
    sizes = axes.norm(dim=0).tolist()[:dims]
    return tuple(sizes) if len(sizes) == dims else None


def slice_as_looked_at(volume: Tensor, across: int, place: int) -> Tensor:
    """A slice ``(C, rows, columns)`` as radiologists look at it: the patient's right is on the left, front and head are up.

    Args:
        volume: ``(C, x, y, z)`` with its axes towards right, front and head (RAS).
        across: the axis that the slice is cut across, from 0.
        place: where on this axis.
    """
    return volume.select(1 + across, place).flip(1, 2).transpose(1, 2)
