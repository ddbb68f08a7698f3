"""Layers that change their type in place, and may choose quicker kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def with_mixin(kind: Any, mine: Any, stock: bool = True) -> type:
    """A layer's type with one of ours in it: before torch's ``forward`` where that is ``stock``, behind the layer's own."""
    return type(f"Present{kind.__name__}", (mine, kind) if stock else (kind, mine), {})


def takes_gradient(x: Tensor) -> bool:
    """Whether a gradient will be taken through what becomes of this."""
    return x.requires_grad and torch.is_grad_enabled()


class FastKernels:
    """A layer with a choice: ``quick=False`` takes the kernels that papers' code calls, whatever they cost."""

    use_fast: bool = True
