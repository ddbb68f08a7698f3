"""How uncertain an answer is at each voxel: functions of probabilities ``(N, K, *spatial)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_tta.core.objectives import Head


def with_temperature(p: Tensor, head: Head, temperature: float) -> Tensor:
    """The probabilities of the same logits, divided by a temperature above 0; 1 changes nothing.

    Args:
        p: probabilities ``(N, K, *spatial)``.
        head: what they stand for.
        temperature: above 1 makes them less certain.
    """
    if temperature == 1:
        return p
    if head == "sigmoid":
        return torch.sigmoid(torch.logit(p, eps=1e-6) / temperature)
    return (p.clamp_min(1e-12).log() / temperature).softmax(1)


def mutual_information(answers: Sequence[Tensor], head: Head) -> Tensor:
    """How much the answers disagree at each voxel: the entropy of their mean less their mean entropy, in nats, at least 0.

    Houlsby et al. 2011, arXiv 1112.5745; for segmentation with views: Wang et al. 2019, arXiv 1807.07356. For "sigmoid", the sum
    over channels of that of each channel by itself.

    Args:
        answers: at least one, probabilities ``(N, K, *spatial)``.
        head: what they stand for.

    Returns:
        ``(N, 1, *spatial)``; from 0 to log K for "softmax", to K log 2 for "sigmoid".
    """
    mean = torch.stack(list(answers)).mean(0)
    inside = torch.stack([_entropy(p, head) for p in answers]).mean(0)
    return (_entropy(mean, head) - inside).clamp_min(0)


def _entropy(p: Tensor, head: Head) -> Tensor:
    """Entropy at each voxel, ``(N, 1, *spatial)``, in nats."""
    terms = -torch.xlogy(p, p)
    if head == "sigmoid":
        terms = terms - torch.xlogy(1 - p, 1 - p)
    return terms.sum(1, keepdim=True)
