"""How much of the surface of each structure is right: normalised surface Dice (NSD), Nikolov et al. 2018, arXiv 1809.04430.

It is the share of both surfaces that lies within a tolerance of the other. Surfaces are counted in voxels, as MONAI's
`compute_surface_dice` and `monai_tta.evaluation.scoring` count them.
"""

from __future__ import annotations

import warnings

import numpy as np
from monai.metrics import get_mask_edges, get_surface_distance
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.core.record import SURFACE_TOLERANCE
from monai_tta.quality.gain_predictor import Floats


def structure_nsd(masks: Tensor, label: Tensor) -> Floats:
    """NSD of each structure, at a tolerance of `SURFACE_TOLERANCE` voxel, over the surfaces of all windows together.

    Where a window's edge cuts a structure, the cut counts as surface. A window in which only one of both has the structure adds
    that surface, and none of it is right.

    Args:
        masks: an answer ``(N, structures, *spatial)``, boolean, 2D or 3D.
        label: of the same shape.

    Returns:
        ``(structures,)``, in [0, 1]; 1 where neither has the structure in any window, 0 where one of both has it in none.
    """
    right = np.zeros(masks.shape[1])
    total = np.zeros(masks.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)  # of MONAI 1.6's calls to itself
        for n, k in np.ndindex(*masks.shape[:2]):
            ours, true = _edges(masks[n, k].numpy(), label[n, k].numpy())
            total[k] += ours.sum() + true.sum()
            if ours.any() and true.any():
                for one, other in ((ours, true), (true, ours)):
                    right[k] += (get_surface_distance(one, other) <= SURFACE_TOLERANCE).sum()
    return np.where(total > 0, right / np.maximum(total, 1), 1.0)


def _edges(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The surface voxels of both, in the box around both. MONAI's own way to this box takes longer than all the rest."""
    filled = mask | truth
    box = tuple(slice(found.min(), found.max() + 1) if len(found) else slice(0) for found in filled.nonzero())
    ours, true = get_mask_edges(mask[box], truth[box], crop=False)
    return ours, true
