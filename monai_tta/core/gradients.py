"""Gradients as values: how to take them, compare them, and move along them.

A gradient is a list with one entry per moving tensor, ``None`` where a tensor took no part (an unused auxiliary branch).
Gradients come from `torch.autograd.grad`, never from ``.backward()``, so no tensor's ``.grad`` changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.distributed import mean_over_processes
from monai_tta.compute.window_batches import windows_at_once

Gradient = list[Tensor | None]


def gradient(
    loss: Callable[[Tensor], Tensor],
    windows: Tensor,
    moving: Sequence[Tensor],
    *,
    voxels_at_once: int | None = None,
    over_processes: bool = False,
) -> tuple[float, Gradient]:
    """Mean loss over a batch of windows ``(N, C, *spatial)``, and its gradient.

    Windows go through the network a few at a time, and only these few's graph is kept. So the peak memory does not grow with N.

    Args:
        loss: a scalar loss of windows.
        windows: what to take the mean over.
        moving: the tensors to take the gradient for.
        voxels_at_once: see `windows_at_once`.
        over_processes: whether both are means over all processes of `torch.distributed`.

    Returns:
        the loss, and one gradient (or None) per moving tensor, at the moving tensors' present values.
    """
    total: Gradient = [None] * len(moving)
    value = 0.0
    for some in windows.chunk(-(-len(windows) // windows_at_once(windows, voxels_at_once))):
        part = loss(some) * (len(some) / len(windows))
        grads = torch.autograd.grad(part, moving, allow_unused=True) if part.requires_grad else [None] * len(moving)
        total = [b if a is None else a if b is None else a + b for a, b in zip(total, grads, strict=True)]
        value += float(part.detach())
    return mean_over_processes(value, total) if over_processes else (value, total)


def product(a: Gradient, b: Gradient) -> float:
    """Inner product of two gradients, as if each were one long vector."""
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True) if x is not None and y is not None)


def length(a: Gradient) -> float:
    """Euclidean length of a gradient."""
    return product(a, a) ** 0.5


def cosine(a: Gradient, b: Gradient) -> float:
    """Cosine of the angle between two gradients, in [-1, 1]; 0 when either is zero (GraTa, eq. 6, plus 1e-12 in the divisor)."""
    return product(a, b) / (length(a) * length(b) + 1e-12)


def finite(a: Gradient) -> bool:
    """Whether no entry of a gradient is NaN or infinite."""
    return isfinite(product(a, a))


@contextmanager
def displaced(moving: Sequence[Tensor], direction: Gradient, distance: float) -> Iterator[None]:
    """Move tensors by ``distance * direction`` inside a ``with`` block, then restore them bit for bit."""
    before = [tensor.detach().clone() for tensor in moving]
    try:
        with torch.no_grad():
            for tensor, step in zip(moving, direction, strict=True):
                if step is not None:
                    tensor.add_(step, alpha=distance)
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(moving, before, strict=True):
                tensor.copy_(old)


@contextmanager
def holding(moving: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Let tensors have other values inside a ``with`` block. Nothing is copied, and their own values are untouched meanwhile."""
    own = [tensor.data for tensor in moving]
    try:
        for tensor, value in zip(moving, values, strict=True):
            tensor.data = value.data
        yield
    finally:
        for tensor, value in zip(moving, own, strict=True):
            tensor.data = value


def step_along(optimizer: torch.optim.Optimizer, gradient: Gradient, scale: float | Sequence[float] = 1.0) -> None:
    """One optimiser step along a gradient.

    Args:
        optimizer: over the tensors that the gradient is of.
        gradient: one entry per tensor.
        scale: what every learning rate is multiplied by for this step; one number, or one for each tensor.
    """
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    scales = [scale] * len(tensors) if isinstance(scale, float | int) else list(scale)
    usual_groups = optimizer.param_groups
    try:
        for tensor, part in zip(tensors, gradient, strict=True):
            tensor.grad = part
        optimizer.param_groups = _scaled_groups(usual_groups, scales)
        optimizer.step()
    finally:
        optimizer.param_groups = usual_groups
        for tensor in tensors:
            tensor.grad = None


def _scaled_groups(groups: list[dict[str, Any]], scales: Sequence[float]) -> list[dict[str, Any]]:
    """Groups at scaled learning rates: as they are where a group's tensors share a scale, else one group for each tensor.

    An optimiser keeps its state by tensor, so it is the same whichever groups the tensors are in.
    """
    scaled = []
    rest = iter(scales)
    for group in groups:
        own = [next(rest) for _ in group["params"]]
        parts = (
            [(group["params"], own[0])] if len(set(own)) == 1 else [([t], s) for t, s in zip(group["params"], own, strict=True)]
        )
        scaled += [group | {"params": some, "lr": group["lr"] * scale} for some, scale in parts]
    return scaled
