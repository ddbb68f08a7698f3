"""What an answer without a label says about itself: pure functions of probabilities ``(N, K, *spatial)``.

Foreground is every channel but the first where channels exclude each other ("softmax"), and every channel where they don't
("sigmoid"). Everything is a plain number, so that it can stand in a record or a judge's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def structures(p: Tensor, head: Any) -> Tensor:
    """The foreground channels ``(N, K', *spatial)``."""
    return p[:, 1:] if head == "softmax" else p


def hard_masks(p: Tensor, head: Any) -> Tensor:
    """The foreground channels ``(N, K', *spatial)`` as the mask they stand for, boolean."""
    if head == "softmax":
        best = p.argmax(1, keepdim=True)
        return best == torch.arange(1, p.shape[1], device=p.device).view(1, -1, *[1] * (p.ndim - 2))
    return p > 0.5


def agreement(p: Tensor, q: Tensor, head: Any) -> float:
    """Soft Dice of two answers in [0, 1], ``2 sum(min(p, q)) / sum(p + q)``, averaged over the structures that at least one of
    them shows (more than half a voxel of probability); 1 where neither shows any."""
    a, b = structures(p, head), structures(q, head)
    axes = [0, *range(2, a.ndim)]
    total = (a + b).sum(axes)
    shown = total > 0.5
    if not bool(shown.any()):
        return 1.0
    return float((2 * torch.minimum(a, b).sum(axes)[shown] / total[shown]).mean())


def mean_entropy(p: Tensor, head: Any) -> float:
    """Entropy per voxel in nats: over channels for "softmax", of each channel by itself and averaged for "sigmoid"."""
    if head == "softmax":
        return float(-torch.xlogy(p, p).sum(1).mean())
    return float(-(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean())


def foreground_fraction(p: Tensor, head: Any) -> float:
    """Probability of foreground per voxel and structure, in [0, 1]."""
    return float(structures(p, head).mean())


def confidence(p: Tensor, head: Any) -> float:
    """Mean probability of a structure where it is the answer (above one half), in [0.5, 1]; 0.5 where nothing is."""
    own = structures(p, head)
    inside = own > 0.5
    return float(own[inside].mean()) if bool(inside.any()) else 0.5


def uncertain_fraction(p: Tensor, head: Any) -> float:
    """Voxels with a probability between .1 and .9 for each voxel of foreground (at least one); 0 is certain."""
    own = structures(p, head)
    return float(((own > 0.1) & (own < 0.9)).sum() / (own > 0.5).sum().clamp_min(1))


def mean_by_third(values: Sequence[float]) -> tuple[float, float, float]:
    """Means over the early, middle and late third of the layers; NaN for a third without layers."""
    n = len(values)
    parts = [values[n * k // 3 : n * (k + 1) // 3] for k in range(3)]
    a, b, c = (sum(part) / len(part) if part else float("nan") for part in parts)
    return a, b, c
