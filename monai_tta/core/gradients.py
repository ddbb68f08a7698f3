"""How far: gradients as values, their cosine, displacement, and optimiser steps.

Gradients are lists with one entry per moving tensor; ``None`` where a tensor took no part (an unused auxiliary branch).
They are taken with `torch.autograd.grad`, never ``.backward()``: nobody's ``.grad`` is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite

import torch
from torch import Tensor

from monai_tta.compute.distributed import _TOGETHER, _shared
from monai_tta.compute.window_batches import windows_at_once

Gradient = list[Tensor | None]


def gradient(loss: Callable[[Tensor], Tensor], windows: Tensor, moving: Sequence[Tensor]) -> tuple[float, Gradient]:
    """Mean loss over a batch of windows ``(N, C, *spatial)`` and its gradient, a few small windows at a time, or one large one.

    Only these windows' graph is alive at a time, so the peak memory does not grow with N.

    Inside `together` both are means over all processes.

    Returns:
        the loss and one gradient (or None) per moving tensor, at the moving tensors' present values.
    """
    total: Gradient = [None] * len(moving)
    value = 0.0
    for some in windows.chunk(-(-len(windows) // windows_at_once(windows))):
        one = loss(some) * (len(some) / len(windows))
        grads = torch.autograd.grad(one, moving, allow_unused=True) if one.requires_grad else [None] * len(moving)
        total = [b if a is None else a if b is None else a + b for a, b in zip(total, grads, strict=True)]
        value += float(one.detach())
    return _shared(value, total) if _TOGETHER.get() else (value, total)


def product(a: Gradient, b: Gradient) -> float:
    """Inner product of two gradients, as if each were one long vector."""
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True) if x is not None and y is not None)


def norm(a: Gradient) -> float:
    """Euclidean length of a gradient."""
    return product(a, a) ** 0.5


def cosine(a: Gradient, b: Gradient) -> float:
    """Cosine in [-1, 1] between two gradients; 0 when either vanishes (GraTa, eq. 6: ``+ 1e-12`` below the line)."""
    return product(a, b) / (norm(a) * norm(b) + 1e-12)


def finite(a: Gradient) -> bool:
    """Whether no entry of a gradient is NaN or infinite."""
    return isfinite(product(a, a))


@contextmanager
def displaced(moving: Sequence[Tensor], direction: Gradient, look_ahead: float) -> Iterator[None]:
    """Move tensors by ``reach * direction`` for the length of a ``with`` block, then put them back bit for bit."""
    before = [tensor.detach().clone() for tensor in moving]
    try:
        with torch.no_grad():
            for tensor, step in zip(moving, direction, strict=True):
                if step is not None:
                    tensor.add_(step, alpha=look_ahead)
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(moving, before, strict=True):
                tensor.copy_(old)


def step_along(optimizer: torch.optim.Optimizer, slope: Gradient, scale: float = 1.0) -> None:
    """One optimiser step along a gradient, with every group's learning rate multiplied by ``scale`` for this step."""
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for tensor, step in zip(tensors, slope, strict=True):
            tensor.grad = step
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr * scale
        optimizer.step()
    finally:
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        for tensor in tensors:
            tensor.grad = None
