"""Numbers that an answer shows without a label: pure functions of probabilities ``(N, K, *spatial)``.

Foreground is every channel but the first where channels exclude each other ("softmax"), and every channel where they do not
("sigmoid"). All but the first three functions return plain numbers, for records and for the features of a gain predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_tta.core.objectives import Head


def structures(p: Tensor, head: Head) -> Tensor:
    """The foreground channels ``(N, K', *spatial)`` of probabilities.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    return p[:, 1:] if head == "softmax" else p


def hard_masks(p: Tensor, head: Head) -> Tensor:
    """The foreground channels ``(N, K', *spatial)`` as boolean masks: the likeliest channel, or more than 0.5 for "sigmoid".

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    if head == "softmax":
        likeliest = p.argmax(1, keepdim=True)
        return likeliest == torch.arange(1, p.shape[1], device=p.device).view(1, -1, *[1] * (p.ndim - 2))
    return p > 0.5


def voxels_last(x: Tensor) -> Tensor:
    """``(N, K, *spatial)`` as ``(K, voxels)``: the windows one after the other."""
    return x.transpose(0, 1).flatten(1)


def agreement(p: Tensor, q: Tensor, head: Head) -> float:
    """Soft Dice of two answers, ``2 sum(min(p, q)) / sum(p + q)``, in [0, 1].

    The mean over structures with more than half a voxel of probability in the two answers' sum; 1 where there is none.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        q: probabilities of the same shape.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    a = structures(p, head)
    b = structures(q, head)
    axes = [0, *range(2, a.ndim)]
    total = (a + b).sum(axes)
    is_shown = total > 0.5
    if not bool(is_shown.any()):
        return 1.0
    return float((2 * torch.minimum(a, b).sum(axes)[is_shown] / total[is_shown]).mean())


def mean_entropy(p: Tensor, head: Head) -> float:
    """Entropy per voxel in nats: over channels for "softmax"; for "sigmoid" of each channel by itself, averaged over channels.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    if head == "softmax":
        return float(-torch.xlogy(p, p).sum(1).mean())
    return float(-(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean())


def foreground_fraction(p: Tensor, head: Head) -> float:
    """Mean probability of foreground over voxels and structures, in [0, 1].

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    return float(structures(p, head).mean())


def confidence(p: Tensor, head: Head) -> float:
    """Mean probability of structures over the voxels where it is more than 0.5, in [0.5, 1]; 0.5 where there are none.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    foreground = structures(p, head)
    is_inside = foreground > 0.5
    return float(foreground[is_inside].mean()) if bool(is_inside.any()) else 0.5


def uncertain_fraction(p: Tensor, head: Head) -> float:
    """Voxels with a probability between 0.1 and 0.9, per voxel with more than 0.5 (at least one is counted); 0 is certain.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    foreground = structures(p, head)
    is_uncertain = (foreground > 0.1) & (foreground < 0.9)
    return float(is_uncertain.sum() / (foreground > 0.5).sum().clamp_min(1))


def mean_by_third(values: Sequence[float]) -> tuple[float, float, float]:
    """Means over the early, middle and late third of a sequence of layers; NaN for a third without layers.

    Args:
        values: numbers in order, e.g. one for each layer.
    """
    n = len(values)
    thirds = [values[n * k // 3 : n * (k + 1) // 3] for k in range(3)]
    early, middle, late = (sum(third) / len(third) if third else float("nan") for third in thirds)
    return early, middle, late
