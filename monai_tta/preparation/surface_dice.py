"""How much of the surface of each structure is right: normalised surface Dice (NSD), Nikolov et al. 2018, arXiv 1809.04430.

It is the share of both surfaces that lies within a tolerance of the other. Surfaces are counted in voxels, as MONAI's
`compute_surface_dice` and `monai_tta.evaluation.scoring` count them.
"""

from __future__ import annotations

import warnings

import numpy as np
from monai.metrics.utils import get_edge_surface_distance
from torch import Tensor

from monai_tta.core.record import SURFACE_TOLERANCE
from monai_tta.quality.gain_predictor import Floats


def structure_nsd(masks: Tensor, label: Tensor) -> Floats:
    """NSD of each structure, at a tolerance of `SURFACE_TOLERANCE` voxels, over the surfaces of all windows together.

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
        warnings.filterwarnings("ignore", ".*is all 0, this may result in nan/inf distance.*")  # an infinity is right here
        for mask, truth in zip(masks, label, strict=True):
            for k in np.flatnonzero((mask | truth).flatten(1).any(1)):
                edges, distances, _ = get_edge_surface_distance(mask[k], truth[k], symmetric=True)
                right[k] += sum(int((one <= SURFACE_TOLERANCE).sum()) for one in distances)
                total[k] += sum(int(one.sum()) for one in edges)
    return np.where(total > 0, right / np.maximum(total, 1), 1.0)
