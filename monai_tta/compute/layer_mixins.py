"""How layers change their type in place, the switch for their fast kernels, and a kernel that has to be kept from crashing."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


@cache
def with_mixin(kind: Any, mixin: Any, stock: bool = True) -> type:
    """A type that behaves as a layer's type, with a mixin of ours.

    Args:
        kind: the layer's type.
        mixin: our type, with a ``forward`` of its own.
        stock: whether ``kind`` has torch's own ``forward``, which the mixin's replaces. Any other ``forward`` stays, and reaches
            the mixin's by ``super().forward``.
    """
    return type(f"Adaptive{kind.__name__}", (mixin, kind) if stock else (kind, mixin), {})


def takes_gradient(x: Tensor) -> bool:
    """Whether a gradient will flow back through this tensor."""
    return x.requires_grad and torch.is_grad_enabled()


class FastKernels:
    """A layer with a choice of kernels: ``use_fast=False`` uses torch's own, as papers' code does, even where they are slow."""

    use_fast: bool = True


class SafeGroupNorm(nn.GroupNorm):
    """A GroupNorm that can learn behind frozen layers in any memory layout.

    torch 2.13 crashes on a CPU (a segmentation fault) in the gradient of scale and shift when the layout is channels last and the
    features themselves take no gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The same normalisation. Features that take no gradient are first made contiguous."""
        return super().forward(x if x.requires_grad else x.contiguous())
