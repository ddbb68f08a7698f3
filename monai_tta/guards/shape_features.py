"""The shape of a mask in plain numbers: volume, components, elongation and compactness, in 2D and 3D."""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, nan, pi, prod, sqrt
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

SMALL = 8  # voxels: a smaller component is a speck and not counted


@dataclass(frozen=True)
class ShapeFeatures:
    """The shape of one structure's mask.

    Args:
        volume: in cubes (2D: squares) of the spacing's unit; in voxels where no spacing is known.
        components: how many connected components there are; specks are not counted.
        elongation: the longest over the shortest axis of the ellipsoid with the mask's second moments: 1 for a ball, more for
            anything else; NaN for an empty mask.
        compactness: the mask's volume over that ellipsoid's: 1 for an ellipsoid, less for anything branched or scattered; NaN
            for an empty mask.
    """

    volume: float
    components: int
    elongation: float
    compactness: float


def measure_shape(mask: Tensor, spacing: tuple[float, ...] | None = None, small: int = SMALL) -> ShapeFeatures:
    """Measure a mask on the CPU. Reads each voxel once.

    Args:
        mask: booleans ``(*spatial)``.
        spacing: the size of a voxel along each axis; None counts voxels.
        small: components of fewer voxels are not counted.

    Raises:
        ValueError: for a spacing with another number of axes than the mask.
    """
    own = mask.detach().cpu().numpy().astype(bool)
    size = (1.0,) * own.ndim if spacing is None else tuple(spacing)
    if len(size) != own.ndim:
        raise ValueError(f"a mask of shape {own.shape} needs a spacing of {own.ndim} numbers, found {size}")
    volume = float(own.sum()) * prod(size)
    if not volume:
        return ShapeFeatures(0.0, 0, nan, nan)
    axes = _half_axes(own, size)
    n = own.ndim
    ellipsoid = pi ** (n / 2) / gamma(n / 2 + 1) * float(np.prod(axes))
    return ShapeFeatures(volume, count_components(own, small), float(axes[-1] / axes[0]), volume / ellipsoid)


def count_components(mask: Any, small: int = SMALL) -> int:
    """How many connected components of at least ``small`` voxels a mask ``(*spatial)`` has.

    Voxels that share a corner belong to the same component.

    Args:
        mask: booleans ``(*spatial)``.
        small: components of fewer voxels do not count.
    """
    own = np.asarray(mask, bool)
    labelled, count = ndimage.label(own, np.ones((3,) * own.ndim))
    return int((np.bincount(labelled.ravel(), minlength=count + 1)[1:] >= small).sum())


def _half_axes(mask: Any, size: tuple[float, ...]) -> Any:
    """Half axes, shortest first, of the ellipsoid with the second moments of a mask's voxels, each a small box."""
    places = np.argwhere(mask) * np.asarray(size)
    covariance = np.atleast_2d(np.cov(places.T, bias=True)) + np.diag(np.square(size) / 12)
    return sqrt(mask.ndim + 2) * np.sqrt(np.linalg.eigvalsh(covariance))
