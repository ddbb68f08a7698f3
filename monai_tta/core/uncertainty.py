"""How much the answers behind a mask disagree, voxel by voxel: mutual information in nats."""

from __future__ import annotations

from collections.abc import Iterable
from math import log

import torch
from torch import Tensor

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import Head


def entropy_of(p: Tensor, head: Head) -> Tensor:
    """Entropy ``(N, 1, *spatial)`` of each voxel in nats, between 0 and `largest_information`.

    Args:
        p: probabilities ``(N, K, *spatial)``.
        head: what they stand for. Softmax: the entropy of one question with K answers. Sigmoid: the sum over channels of the
            entropies of K yes/no questions, which is their joint entropy where they are independent.

    >>> round(float(entropy_of(torch.full((1, 2, 1), 0.5), "softmax")), 4)
    0.6931
    """
    each = torch.special.entr(p)
    if head == "sigmoid":
        each = each + torch.special.entr(1 - p)
    return each.sum(1, keepdim=True)


def mutual_information(answers: Iterable[tuple[float, Tensor]], head: Head) -> Tensor:
    """Mutual information ``(N, 1, *spatial)`` between a voxel's label and the choice of one answer among several, in nats.

    The entropy of the mean answer minus the mean entropy of the answers: 0 where all of them say the same, however unsure they
    are, and at most the smaller of `largest_information` and the logarithm of their number. Houlsby et al. 2011, arXiv 1112.5745
    (BALD); over networks with other dropout in Gal et al., ICML 2017, arXiv 1703.02910. Here over views and mixed networks.

    Args:
        answers: weights, which sum to 1, and probabilities ``(N, K, *spatial)``. They are used up one by one.
        head: what the probabilities stand for.

    Raises:
        CannotAdapt: for a single answer, which cannot disagree with itself, or one that is not finite.

    >>> sure = torch.tensor([[[1.0], [0.0]]])
    >>> round(float(mutual_information([(0.5, sure), (0.5, sure.flip(1))], "softmax")), 4)
    0.6931
    """
    mean: Tensor | None = None
    mean_entropy: Tensor | None = None
    n_answers = 0
    for weight, p in answers:
        entropy = weight * entropy_of(p, head)
        mean = weight * p if mean is None else mean + weight * p
        mean_entropy = entropy if mean_entropy is None else mean_entropy + entropy
        n_answers += 1
    if n_answers < 2 or mean is None or mean_entropy is None:
        raise CannotAdapt("a single answer cannot disagree with itself, so it shows no mutual information; allow more views")
    found = entropy_of(mean.clamp(0, 1), head) - mean_entropy  # the mean may be above 1 by rounding
    if not bool(found.isfinite().all()):
        raise CannotAdapt("the network's answer to a mirrored or turned view is not finite")
    return found.clamp_min(0)  # it is below 0 by rounding alone


def largest_information(channels: int, head: Head) -> float:
    """The largest entropy and mutual information that a voxel can have, in nats: log K for softmax, K log 2 for sigmoid.

    Args:
        channels: K, of the network's answer.
        head: what they stand for.

    >>> round(largest_information(3, "softmax"), 4), round(largest_information(2, "sigmoid"), 4)
    (1.0986, 1.3863)
    """
    return log(channels) if head == "softmax" else channels * log(2)
