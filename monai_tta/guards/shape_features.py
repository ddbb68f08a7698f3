"""How a mask is shaped: size, pieces, elongation and compactness, as plain numbers, in 2D and 3D."""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, nan, pi, prod, sqrt
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

SMALL = 8  # voxels: a smaller piece is a speck and not counted


@dataclass(frozen=True)
class ShapeFeatures:
    """The shape of one structure's mask.

    ``volume`` in the cube (2D: square) of the spacing's unit, voxels where no spacing is known; ``pieces`` counts what hangs
    together; ``elongation`` is the longest over the shortest axis of the ellipsoid with the mask's second moments, 1 for a
    ball; ``compactness`` the mask's volume over that ellipsoid's, 1 for an ellipsoid and less for anything branched or
    scattered. The last two are NaN for an empty mask.
    """

    volume: float
    components: int
    elongation: float
    compactness: float


def measure_shape(mask: Tensor, spacing: tuple[float, ...] | None = None, small: int = SMALL) -> ShapeFeatures:
    """Measure a mask ``(*spatial)``, on the CPU.

    Args:
        mask: boolean.
        spacing: a voxel's size along each axis; None counts voxels.
        small: pieces of fewer voxels are not counted.

    Raises:
        ValueError: when the spacing has another number of axes than the mask.
    """
    own = mask.detach().cpu().numpy().astype(bool)
    size = (1.0,) * own.ndim if spacing is None else tuple(spacing)
    if len(size) != own.ndim:
        raise ValueError(f"a mask of shape {own.shape} needs a spacing of {own.ndim} numbers, found {size}")
    volume = float(own.sum()) * prod(size)
    if not volume:
        return ShapeFeatures(0.0, 0, nan, nan)
    axes = _axes(own, size)
    n = own.ndim
    ellipsoid = pi ** (n / 2) / gamma(n / 2 + 1) * float(np.prod(axes))
    return ShapeFeatures(volume, components(own, small), float(axes[-1] / axes[0]), volume / ellipsoid)


def components(mask: Any, small: int = SMALL) -> int:
    """How many pieces of at least ``small`` voxels a mask ``(*spatial)`` has; voxels that share a corner hang together."""
    own = np.asarray(mask, bool)
    labelled, count = ndimage.label(own, np.ones((3,) * own.ndim))
    return int((np.bincount(labelled.ravel(), minlength=count + 1)[1:] >= small).sum())


def _axes(mask: Any, size: tuple[float, ...]) -> Any:
    """Half axes, shortest first, of the ellipsoid with the second moments of a mask's voxels, each a small box."""
    places = np.argwhere(mask) * np.asarray(size)
    spread = np.atleast_2d(np.cov(places.T, bias=True)) + np.diag(np.square(size) / 12)
    return sqrt(mask.ndim + 2) * np.sqrt(np.linalg.eigvalsh(spread))
