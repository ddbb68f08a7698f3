"""Honest probabilities: those of the same logits, divided by a temperature (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

from torch import Tensor

from monai_tta.core.objectives import Head


def with_temperature(p: Tensor, head: Head, temperature: float) -> Tensor:
    """The probabilities of the same logits, divided by a temperature above 0; 1 changes nothing.

    A structure stays the likeliest one, so no mask changes.

    Args:
        p: probabilities ``(N, K, *spatial)``.
        head: what they stand for.
        temperature: above 1 makes them less certain.
    """
    if temperature == 1:
        return p
    if head == "sigmoid":
        return (p.clamp(1e-6, 1 - 1e-6).logit() / temperature).sigmoid()
    return (p.clamp_min(1e-12).log() / temperature).softmax(1)
