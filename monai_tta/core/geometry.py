"""The voxel spacing of an image, from its affine."""

from __future__ import annotations

from typing import Any

import torch


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
