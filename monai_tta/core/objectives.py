"""Which way: pure losses of logits, one formula for sigmoid and softmax heads, in 2D and in 3D.

Every function takes logits of shape ``(N, C, *spatial)`` and the ``head`` they are meant for: ``"sigmoid"`` (each
channel a yes/no question of its own) or ``"softmax"`` (one class per voxel), and returns a scalar that is a mean over
windows and voxels, so that equal-sized windows weigh equally however they are batched.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Head = Literal["softmax", "sigmoid"]


def probabilities(logits: Tensor, head: Head) -> Tensor:
    """Turn logits into probabilities in [0, 1], of the same shape.

    Raises:
        ValueError: when ``head`` is neither "softmax" nor "sigmoid".

    >>> probabilities(torch.zeros(1, 2, 3), "softmax")[0, :, 0].tolist()
    [0.5, 0.5]
    """
    if head == "softmax":
        return logits.softmax(1)
    if head == "sigmoid":
        return logits.sigmoid()
    raise ValueError(f"head must be 'softmax' or 'sigmoid', found {head!r}")


def labels(logits: Tensor, head: Head) -> Tensor:
    """Turn logits into the mask they stand for: class numbers ``(N, 1, *spatial)`` or one boolean per sigmoid channel."""
    return logits.argmax(1, keepdim=True) if head == "softmax" else logits > 0


def half_entropy(logits: Tensor, head: Head) -> Tensor:
    """Uncertainty in nats as the GraTa code writes it: the mean over voxels of ``sum_c -p log(p + 1e-6)``.

    For a softmax head this is the whole entropy. For a sigmoid head it leaves out ``(1 - p) log(1 - p)``, so its pull
    changes sign at p = 1/e; it is kept for parity (Chen et al., AAAI 2025, arXiv 2408.07343).
    """
    p = probabilities(logits, head)
    return -(p * (p + 1e-6).log()).sum(1).mean()


def full_entropy(logits: Tensor, head: Head) -> Tensor:
    """Uncertainty in nats: softmax ``-sum_c p log p`` in [0, log C]; sigmoid the sum of Bernoulli entropies in [0, C log 2].

    Computed from log-probabilities, hence finite for any finite logits. Softmax over two classes equals the sigmoid of
    their difference. Source: Shannon; as an adaptation objective Wang et al., ICLR 2021 (TENT).
    """
    if head == "softmax":
        return -(probabilities(logits, head) * logits.log_softmax(1)).sum(1).mean()
    p = probabilities(logits, head)
    return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).sum(1).mean()


def cross_entropy(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Disagreement in nats of logits with soft target probabilities of the same shape.

    Sigmoid: binary cross-entropy averaged over channels and voxels (the consistency loss of GraTa, eq. 4); softmax:
    cross-entropy to the target distribution, averaged over voxels.

    Raises:
        ValueError: when the shapes differ.
    """
    if logits.shape != target.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape")
    if head == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits, target)
    return -(target * logits.log_softmax(1)).sum(1).mean()
