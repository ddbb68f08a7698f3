"""Gradients of the entropy in closed form, for a linear classifier, and their cosines with one anchor per class: pure functions.

The classifier is ``z = W h + b`` with rows ``W (K, F)``, biases ``b (K,)`` and a feature ``h (F,)`` for each voxel. These are the
formulas of `monai_tta.methods.stag`; voxels are laid out as ``(N, channels, V)``.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tta.core.objectives import Head

Reading = Literal["feature", "term", "row"]
TINY = 1e-12  # a vector whose squared length is not above this has no direction: its cosines are 0 and take no gradient


def predicted_classes(logits: Tensor) -> Tensor:
    """The class with the largest logit, ``(N, 1, V)``."""
    return logits.detach().max(1, keepdim=True).indices  # on a CPU, torch's argmax along this axis takes ten times as long


def class_anchors(weight: Tensor, bias: Tensor, head: Head, reading: Reading) -> Tensor:
    """Directions ``(K, F)`` of length 1 of the entropy gradients at features that are the rows of a classifier.

    Args:
        weight: its rows ``(K, F)``.
        bias: its biases ``(K,)``.
        head: what its logits stand for; "sigmoid" allows reading="row" alone.
        reading: see `STAG`.
    """
    logits = weight @ weight.T + bias  # entry (c, i): the logit of class i where the feature is row c
    if head == "sigmoid":
        towards = -logits.diagonal().sign()[:, None] * weight
    elif reading == "row":
        log_p = logits.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1)
        towards = -(log_p.diagonal() + entropy).sign()[:, None] * weight
    else:
        classes = logits.argmax(1) if reading == "feature" else torch.arange(len(weight), device=weight.device)
        towards = logit_direction(logits[..., None], classes[:, None, None], reading)[..., 0] @ weight
    return F.normalize(towards, dim=1)


def logit_direction(logits: Tensor, classes: Tensor, reading: Reading) -> Tensor:
    """The direction of the gradient, by the logits, of the entropy (reading="feature") or of one term of it ("term").

    With p the probabilities and H the entropy, the gradients are ``-p_i (log p_i + H)``, and for the term of class c
    ``(1 + log p_c) p_c (p_i - [i = c])``. Both are divided by the probability of all classes but c. So they keep their direction
    where c is certain and the gradients are too small to be represented.

    Args:
        logits: ``(N, K, V)``.
        classes: c for each voxel, ``(N, 1, V)``: the most probable one, unless reading is "term".
        reading: "feature" or "term".

    Returns:
        ``(N, K, V)``; the sum over K is 0.
    """
    others = logits.scatter(1, classes, -torch.inf).softmax(1)  # p_i / (1 - p_c), and 0 for c
    log_p = logits.log_softmax(1)
    if reading == "term":
        return (1 + log_p.gather(1, classes)).sign() * others.scatter(1, classes, -1)
    entropy = -(log_p.exp() * log_p).sum(1, keepdim=True)
    parts = -others * (log_p + entropy)
    return parts.scatter(1, classes, -parts.sum(1, keepdim=True))


def cosines_by_feature(logits: Tensor, weight: Tensor, anchors: Tensor, reading: Reading) -> Tensor:
    """Cosine ``(N, K, V)`` between each voxel's gradient by its feature and each anchor ``(K, F)``; 0 for no gradient.

    The gradient is the transpose of ``weight (K, F)`` times `logit_direction`. Products of rows are all that is needed of it.
    """
    direction = logit_direction(logits, predicted_classes(logits), reading)
    rows = weight - weight.mean(0)  # a direction sums to 0, so this changes no gradient, and rounding errors are smaller
    products = anchors @ rows.T @ direction
    squared = (direction * (rows @ rows.T @ direction)).sum(1, keepdim=True)
    return products / squared.where(squared > TINY, torch.inf).sqrt()


def cosines_by_row(features: Tensor, anchors: Tensor) -> Tensor:
    """Cosine ``(N, K, V)`` between each voxel's gradient by its class's row and each anchor ``(K, F)``, for ``(N, F, V)``.

    The gradient is the feature times a number that is never above 0 for the predicted class.
    """
    squared = (features * features).sum(1, keepdim=True)  # on a CPU, torch's norm along this axis takes thirty times as long
    return -(anchors @ features) / squared.where(squared > TINY, torch.inf).sqrt()


def voxel_shares(logits: Tensor, head: Head, equal_classes: bool) -> Tensor:
    """The share ``(N, K, V)`` of each voxel, for the class that it is predicted to be, in a mean over its window.

    A sigmoid channel is predicted where its logit is above 0. Shares sum to 1 in each window where anything is predicted.

    Args:
        logits: ``(N, K, V)``.
        head: what they stand for.
        equal_classes: whether each predicted class has the same share; False: each voxel.
    """
    if head == "sigmoid":
        share = (logits > 0).to(logits.dtype)
    else:
        share = torch.zeros_like(logits).scatter(1, predicted_classes(logits), 1)
    if equal_classes:
        share = share / share.sum(2, keepdim=True).clamp_min(1)
    return share / share.sum((1, 2), keepdim=True).clamp_min(TINY)


def drawn_voxels(n_voxels: int, wanted: int | None, seed: int) -> Tensor | slice:
    """Indices of ``wanted`` voxels, drawn with replacement; all voxels where there are no more."""
    if wanted is None or wanted >= n_voxels:
        return slice(None)
    return torch.randint(n_voxels, (wanted,), generator=torch.Generator().manual_seed(seed))
