"""Losses of logits, for sigmoid and softmax heads, in 2D and in 3D: pure functions.

All take logits ``(N, C, *spatial)`` and the ``head`` that these are meant for: "sigmoid", where each channel is a yes/no
question of its own, or "softmax", where each voxel has one class. Losses are means over windows and voxels, so windows of equal
size have equal weight however they are batched.
"""

from __future__ import annotations

from math import log
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Head = Literal["softmax", "sigmoid"]


def head_of_channels(channels: int) -> Head:
    """What logits of so many channels stand for where nobody says: one is "sigmoid", more are "softmax"."""
    return "sigmoid" if channels == 1 else "softmax"


def probabilities(logits: Tensor, head: Head) -> Tensor:
    """Turn logits ``(N, C, *spatial)`` into probabilities in [0, 1] of the same shape.

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".

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
    """Turn logits into a mask: class numbers ``(N, 1, *spatial)`` for "softmax", booleans ``(N, C, *spatial)`` for "sigmoid".

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    return logits.argmax(1, keepdim=True) if head == "softmax" else logits > 0


def class_log_probabilities(logits: Tensor, head: Head) -> Tensor:
    """Log-probabilities ``(N, Q, C, *spatial)`` of the C answers to each of Q questions, in one form for both heads.

    Softmax asks one question, with a class for each channel. Sigmoid asks one question per channel, with the answers no and yes.

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    if head == "softmax":
        return logits.log_softmax(1).unsqueeze(1)
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], 2)


def voxel_entropy(logits: Tensor, head: Head) -> Tensor:
    """Entropy ``(N, Q, *spatial)`` of each question at each voxel, in nats, between 0 and `largest_entropy`.

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    log_p = class_log_probabilities(logits, head)
    return -(log_p.exp() * log_p).sum(2)


def largest_entropy(logits: Tensor, head: Head) -> float:
    """The largest entropy that one question can have, in nats: log K for softmax, log 2 for sigmoid.

    Thresholds of papers that classify images are shares of this, such as 0.4 in EATA and SAR.

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    return log(logits.shape[1] if head == "softmax" else 2)


def half_entropy(logits: Tensor, head: Head) -> Tensor:
    """Entropy as GraTa's code computes it, in nats: the mean over voxels of ``sum_c -p log(p + 1e-6)``.

    For a softmax head this is the entropy. For a sigmoid head it leaves out ``(1 - p) log(1 - p)``, so its gradient changes sign
    at p = 1/e. It is here to reproduce the paper (Chen et al., AAAI 2025, arXiv 2408.07343).

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    p = probabilities(logits, head)
    return -(p * (p + 1e-6).log()).sum(1).mean()


def full_entropy(logits: Tensor, head: Head) -> Tensor:
    """Entropy in nats, the mean over voxels.

    Softmax: ``-sum_c p log p`` in [0, log C]. Sigmoid: the sum over channels of ``-p log p - (1 - p) log(1 - p)``, in
    [0, C log 2]. It is computed from log-probabilities, so it is finite for all finite logits. For two classes, softmax gives
    what sigmoid gives for the difference of the logits. As an adaptation objective: Wang et al., ICLR 2021 (TENT).

    Args:
        logits: ``(N, K, *spatial)``.
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    if head == "softmax":
        return -(probabilities(logits, head) * logits.log_softmax(1)).sum(1).mean()
    p = probabilities(logits, head)
    return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).sum(1).mean()


def cross_entropy(logits: Tensor, target: Tensor, head: Head) -> Tensor:
    """Cross-entropy in nats between target probabilities and logits of the same shape, 0 or more.

    Sigmoid: binary cross-entropy, averaged over channels and voxels (GraTa's consistency loss, eq. 4). Softmax: cross-entropy to
    the target distribution, averaged over voxels.

    Args:
        logits: ``(N, K, *spatial)``.
        target: probabilities of the same shape, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".

    Raises:
        ValueError: when the shapes differ.
    """
    if logits.shape != target.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape")
    if head == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits, target)
    return -(target * logits.log_softmax(1)).sum(1).mean()


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, head: Head) -> Tensor:
    """The mean over voxels of ``weight`` times the cross-entropy, in nats: the loss of soft labels that are not sure everywhere.

    With weights whose mean is 1 it is the weighted mean. For weights of one it is `cross_entropy`.

    Args:
        logits: ``(N, K, *spatial)``.
        target: probabilities ``(N, K, *spatial)``.
        weight: ``(N, 1, *spatial)``, 0 or more.
        head: what the logits stand for.

    Raises:
        ValueError: when the shapes do not fit.
    """
    if logits.shape != target.shape or weight.shape != (len(logits), 1, *logits.shape[2:]):
        raise ValueError(
            f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape, "
            f"and the weight one channel on the same voxels, found {tuple(weight.shape)}"
        )
    if head == "sigmoid":
        return (weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).mean()
    return -(weight * target * logits.log_softmax(1)).sum(1).mean()


def dice_and_cross_entropy(log_p: Tensor, label: Tensor) -> Tensor:
    """The loss that most segmentation networks are trained by, from log-probabilities: one minus soft Dice, plus cross-entropy.

    Both are means over windows, questions and, for Dice, classes but the first. A class that is absent from label and answer has
    a Dice of 1.

    Args:
        log_p: ``(N, Q, C, *spatial)``, see `class_log_probabilities`.
        label: class numbers ``(N, Q, *spatial)``.
    """
    cross = -log_p.gather(2, label[:, :, None]).mean()
    return cross + (1 - soft_dice(log_p.exp(), F.one_hot(label, log_p.shape[2]).movedim(-1, 2).to(log_p))).mean()


def soft_dice(p: Tensor, target: Tensor) -> Tensor:
    """Soft Dice ``(N, Q, C - 1)`` in [0, 1] of all classes but the first; ``2 sum(p t) / (sum p + sum t)``, plus 1e-5 twice.

    Args:
        p: probabilities ``(N, Q, C, *spatial)``.
        target: of the same shape, in [0, 1].
    """
    inner, total = (part[:, :, 1:].flatten(3).sum(3) for part in (p * target, p + target))
    return (2 * inner + 1e-5) / (total + 1e-5)
