"""Figures of an image and of the source's own answer to it, in which home images are alike and wrong inputs are not."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from monai_tta.core.geometry import voxel_spacing
from monai_tta.core.label_free_metrics import hard_masks, structures
from monai_tta.core.objectives import Head
from monai_tta.quality.possible_corrections import canonical_axes, image_quantiles

LEVELS = (0.02, 0.25, 0.5, 0.75, 0.98)
MANY_VALUES = 64  # an image with more distinct values than this is no mask

# The least spread that a figure counts with, by the beginning of its name: what differs less among the source's own images is
# still no fault in another. Logarithms for sizes, the network's unit for intensities.
LEAST_SPREAD = {
    "spacing": 0.3,
    "extent": 0.3,
    "values": 0.5,
    "grey": 0.05,
    "inside": 0.05,
    "centre": 0.05,
    "entropy": 0.15,
    "share": 0.25,
    "size": 0.25,
}


def geometry_figures(image: Tensor) -> dict[str, float]:
    """Logarithms of voxel size and extent along x, y and z, and of how many distinct values there are.

    Args:
        image: as loaded, ``(C, *spatial)``. Pictures, and images without an affine, have extents in voxels and no spacing.
    """
    dims = image.ndim - 1
    spacing = voxel_spacing(image, dims) if dims == 3 else None
    figures: dict[str, float] = {}
    for axis, place in enumerate(canonical_axes(image)):
        size = 1.0 if spacing is None else max(spacing[axis], 1e-9)
        if spacing is not None:
            figures[f"spacing {'xyz'[place]}"] = log(size)
        figures[f"extent {'xyz'[place]}"] = log(size * image.shape[axis + 1])
    figures["values"] = log(_distinct_values(image))
    return figures


def grey_figures(prepared: Tensor) -> dict[str, float]:
    """Quantiles of each channel as the network sees it (at most four channels).

    Args:
        prepared: after the bundle's preprocessing, ``(C, *spatial)``.
    """
    return {
        f"grey {channel} {level:g}": value
        for channel, one in enumerate(prepared[:4])
        for level, value in zip(LEVELS, image_quantiles(one[None], LEVELS), strict=True)
    }


def answer_figures(prepared: Tensor, probabilities: Tensor, head: Head) -> dict[str, float]:
    """What the source's answer shows: how sure, how much, where, and how bright inside.

    Args:
        prepared: after the bundle's preprocessing, ``(C, *spatial)``.
        probabilities: the source's, ``(K, *spatial)`` on the same grid.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    p = torch.as_tensor(probabilities)[None].float()
    inside = hard_masks(p, head)[0].any(0)
    soft = structures(p, head)[0].sum(0)
    n_voxels = inside.numel()
    foreground = float(soft.sum())
    entropy = -torch.xlogy(p, p) if head == "softmax" else -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
    figures = {
        "entropy": log((float(entropy.sum()) + 0.5) / (foreground + 0.5)),
        "share": log((foreground + 0.5) / n_voxels),
        "size": log(foreground + 0.5),
    }
    where = soft / max(foreground, 1e-6)
    for axis, length in enumerate(inside.shape):
        others = [k for k in range(inside.ndim) if k != axis]
        places = torch.arange(length, dtype=where.dtype, device=where.device)
        figures[f"centre {axis}"] = float((where.sum(others) * places).sum()) / max(length - 1, 1)
    plain = torch.as_tensor(prepared).float()
    for channel, one in enumerate(plain[:4]):
        figures[f"inside {channel}"] = float((one * where).sum())
    return figures


def _distinct_values(image: Tensor) -> int:
    """How many distinct values the first channel has, at most `MANY_VALUES`; of 200,000 voxels at most."""
    flat = torch.as_tensor(image[0]).flatten()
    return min(MANY_VALUES, len(flat[:: max(1, len(flat) // 200_000)].unique()))
