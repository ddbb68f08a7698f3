"""What an unlabelled answer shows of each of its structures: plain numbers, from which the worth of its mask is predicted.

They need the answer itself and answers of the same network to mirrored and turned views of the same windows, so that they are
there for every method and every kind of normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.core.label_free_metrics import (
    foreground_fraction,
    hard_masks,
    mean_by_third,
    mean_entropy,
    structures,
    voxels_last,
)
from monai_tta.core.objectives import Head

# Of the answers in views: Dice of the masks of each two of them, on average and at least; soft Dice with their mean, likewise;
# and of the answer with their mean. The Dice between answers is the strongest simple signal of failure in Zenk et al. 2024, arXiv
# 2406.03323.
VIEW_FEATURES = (
    "pairwise Dice of views",
    "least pairwise Dice of views",
    "view agreement",
    "least view agreement",
    "agreement with the mean of views",
)
# Of the answer: volumes as shares of all voxels and of foreground, and probability per voxel of mask, all as logarithms; mean
# binary entropy at the mask's border and in the mask, and in all per voxel of mask, in nats; mean probability in the mask; the
# largest.
MASK_FEATURES = (
    "log volume",
    "log share of foreground",
    "log probability per volume",
    "entropy at the border",
    "entropy inside",
    "log entropy per volume",
    "confidence",
    "largest probability",
)
# Of the answer beside the source's.
CHANGE_FEATURES = ("agreement with the unadapted answer", "log growth")
# Of all structures together, and of the image.
WHOLE_FEATURES = (
    "mean pairwise Dice of views",
    "entropy per foreground",
    "foreground fraction",
    "distance of early layers",
    "distance of middle layers",
    "distance of late layers",
)
STRUCTURE_FEATURES = (*VIEW_FEATURES, *MASK_FEATURES, *CHANGE_FEATURES, *WHOLE_FEATURES)
# Those that say by themselves how good a mask is, and whether it is better (1) or worse (-1) where they are larger.
SIGNALS = {
    "pairwise Dice of views": 1,
    "least pairwise Dice of views": 1,
    "view agreement": 1,
    "least view agreement": 1,
    "entropy at the border": -1,
    "entropy inside": -1,
    "log entropy per volume": -1,
    "confidence": 1,
}
EMPTY = STRUCTURE_FEATURES.index("log volume")
TINY = 1e-4


def found_nothing(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of a table ``(..., features)`` are of an empty mask."""
    empty: NDArray[np.bool_] = table[..., EMPTY] <= log(TINY) + 1e-5  # of float32
    return empty


@torch.no_grad()
def own_figures(answers: Sequence[Tensor], of_views: Sequence[Tensor], head: Head) -> list[Tensor]:
    """`VIEW_FEATURES` and `MASK_FEATURES` of answers of one network.

    Args:
        answers: probabilities ``(N, K, *spatial)``, e.g. the un-augmented answer, and the one averaged over views.
        of_views: of the same shape, each from one view, brought back to the windows' own pose. One alone agrees with itself.
        head: what the probabilities stand for.

    Returns:
        for each answer ``(structures, figures)``, float64, on the CPU.
    """
    of_each = torch.stack([voxels_last(structures(one, head)) for one in of_views])
    mean = of_each.mean(0)
    shared = _agreement_of_views(torch.stack([voxels_last(hard_masks(one, head)) for one in of_views], 1), of_each, mean)
    found = []
    for answer in answers:
        with_mean = _soft_dice(voxels_last(structures(answer, head)), mean)
        found.append(torch.stack([*shared, with_mean, *_figures_of_mask(answer, head)], 1).double().cpu())
    return found


@torch.no_grad()
def structure_table(own: Tensor, answer: Tensor, unadapted: Tensor, head: Head, distances: Sequence[float]) -> Tensor:
    """`STRUCTURE_FEATURES` of an answer.

    Args:
        own: what `own_figures` returned for it.
        answer: probabilities ``(N, K, *spatial)``.
        unadapted: the source's, of the same windows.
        head: what the probabilities stand for.
        distances: of the windows' statistics from the source's, layer by layer (none: -1 in the table).

    Returns:
        ``(structures, STRUCTURE_FEATURES)``, float64, on the CPU.
    """
    agreement = _soft_dice(voxels_last(structures(answer, head)), voxels_last(structures(unadapted, head)))
    growth = _log(hard_masks(answer, head)) - _log(hard_masks(unadapted, head))
    foreground = foreground_fraction(answer, head)
    layers = [-1.0 if d != d else d for d in mean_by_third(distances)]
    whole = [float(own[:, 0].mean()), mean_entropy(answer, head) / (foreground + TINY), foreground, *layers]
    change = torch.stack([agreement, growth], 1).double().cpu()
    return torch.cat([own, change, torch.tensor(whole, dtype=torch.float64).expand(len(own), -1)], 1)


def _agreement_of_views(masks: Tensor, of_each: Tensor, mean: Tensor) -> list[Tensor]:
    """`VIEW_FEATURES` but the last, each ``(structures,)``.

    Args:
        masks: of each view, ``(structures, views, voxels)``.
        of_each: probabilities ``(views, structures, voxels)``.
        mean: their mean over views.
    """
    masks = masks.float()
    overlap = masks @ masks.transpose(1, 2)
    sizes = masks.sum(2)
    total = sizes[:, :, None] + sizes[:, None]
    dice = torch.where(total > 0, 2 * overlap / total.clamp_min(1), torch.ones_like(total))
    n_views = masks.shape[1]
    first, second = torch.triu_indices(n_views, n_views, 1 if n_views > 1 else 0)
    of_pairs = dice[:, first, second]
    with_mean = torch.stack([_soft_dice(one, mean) for one in of_each], 1)
    return [of_pairs.mean(1), of_pairs.amin(1), with_mean.mean(1), with_mean.amin(1)]


def _figures_of_mask(answer: Tensor, head: Head) -> list[Tensor]:
    """`MASK_FEATURES`, each ``(structures,)``."""
    masks = hard_masks(answer, head)
    flat = voxels_last(structures(answer, head))
    inside = voxels_last(masks)
    border = voxels_last(_border(masks))
    entropy = -(torch.xlogy(flat, flat) + torch.xlogy(1 - flat, 1 - flat))
    size = inside.sum(1)
    any_size = inside.any(0).sum()
    return [
        _log(masks),
        ((size + 1) / (any_size + 1)).log(),
        ((flat.sum(1) + 1) / (size + 1)).log(),
        _mean_in(entropy, border),
        _mean_in(entropy, inside),
        ((entropy.sum(1) + TINY) / (size + 1)).log(),
        torch.where(size > 0, _mean_in(flat, inside), torch.full_like(flat[:, 0], 0.5)),
        flat.amax(1),
    ]


def _border(masks: Tensor) -> Tensor:
    """The voxels with a neighbour on the other side of the mask's border, along any axis of ``(N, K', *spatial)``."""
    border = torch.zeros_like(masks)
    for axis in range(2, masks.ndim):
        n = masks.shape[axis] - 1
        differs = masks.narrow(axis, 0, n) != masks.narrow(axis, 1, n)
        border.narrow(axis, 0, n).logical_or_(differs)
        border.narrow(axis, 1, n).logical_or_(differs)
    return border


def _log(masks: Tensor) -> Tensor:
    """Logarithm of each mask's share of the voxels, ``(structures,)``; that of `TINY` or less for an empty one."""
    inside = voxels_last(masks)
    return (inside.float().mean(1) + TINY).log()


def _mean_in(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``(structures, voxels)`` in each structure's mask; 0 in an empty one."""
    return (values * mask).sum(1) / mask.sum(1).clamp_min(1)


def _soft_dice(a: Tensor, b: Tensor) -> Tensor:
    """Soft Dice of each structure, ``(structures,)``; 1 where neither has anything."""
    return (2 * torch.minimum(a, b).sum(1) + TINY) / (a.sum(1) + b.sum(1) + TINY)
