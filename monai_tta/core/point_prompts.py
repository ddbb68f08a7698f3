"""Points, boxes and labels made of a network's own mask, in the voxel coordinates of one window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def depth(mask: Tensor) -> Tensor:
    """How far each voxel of a mask ``(*spatial)`` is from the nearest voxel outside it, in voxels; 0 outside.

    The window's border does not count as outside, unless the mask fills the window. Then the border is all there is, and counts.
    """
    own = mask.detach().cpu().numpy().astype(bool)
    if own.all():
        own = np.pad(own, 1)
        inside = ndimage.distance_transform_edt(own)[tuple([slice(1, -1)] * mask.ndim)]
    else:
        inside = ndimage.distance_transform_edt(own)
    return torch.as_tensor(inside, dtype=torch.float32, device=mask.device)


def spread_points(score: Tensor, among: Tensor, n_points: int, room: Tensor) -> list[tuple[int, ...]]:
    """The places of the highest scores, none within another's room.

    The best place is taken, then the best one outside its room, and so on. Of equal scores the first in memory is taken.

    Args:
        score: ``(*spatial)``.
        among: where points may be, a boolean mask ``(*spatial)``.
        n_points: how many are wanted. There may be fewer.
        room: how far, in voxels, other points stay from a point that is placed here, ``(*spatial)``; at least 1 is kept.

    Returns:
        voxel indices, the best first.
    """
    scores = np.where(among.detach().cpu().numpy(), score.detach().float().cpu().numpy(), -np.inf)
    distances_kept = room.detach().cpu().numpy()
    axes = np.ogrid[tuple(slice(side) for side in scores.shape)]
    found: list[tuple[int, ...]] = []
    while len(found) < n_points and np.isfinite(best := scores.max(initial=-np.inf)):
        place = tuple(int(k) for k in np.unravel_index(int(np.argmax(scores == best)), scores.shape))
        found.append(place)
        squared = sum((axis - k) ** 2 for axis, k in zip(axes, place, strict=True))
        scores[squared <= max(1.0, float(distances_kept[place])) ** 2] = -np.inf
    return found


def bounding_box(mask: Tensor) -> list[int]:
    """The first and the last index of a mask ``(*spatial)`` along each axis: ``[*first, *last]``. The mask must not be empty."""
    found = mask.nonzero()
    return [*found.amin(0).tolist(), *found.amax(0).tolist()]


def padded_points(
    each: Sequence[Sequence[tuple[int, ...]]], labels: Sequence[Sequence[int]], dims: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Points of several objects as one tensor.

    Args:
        each: the points of each object.
        labels: the label of each of these points.
        dims: the number of spatial axes.
        device: of the tensors.

    Returns:
        coordinates ``(B, P, dims)`` in float32 and labels ``(B, P)``; where an object has fewer points, label -1 at 0.
    """
    most = max(len(points) for points in each)
    coordinates = torch.zeros(len(each), most, dims)
    marks = torch.full((len(each), most), -1, dtype=torch.long)
    for k, (points, own) in enumerate(zip(each, labels, strict=True)):
        if points:
            coordinates[k, : len(points)] = torch.tensor(points, dtype=torch.float32)
            marks[k, : len(points)] = torch.tensor(own)
    return coordinates.to(device), marks.to(device)
