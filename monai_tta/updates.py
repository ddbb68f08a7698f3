"""How far: gradients as values, their cosine, displacement, and optimiser steps.

Gradients are lists with one entry per moving tensor; ``None`` where a tensor took no part (an unused auxiliary branch).
They are taken with `torch.autograd.grad`, never ``.backward()``: nobody's ``.grad`` is touched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from math import exp, isfinite, log1p
from struct import pack

import torch
import torch.distributed as dist
from torch import Tensor

Gradient = list[Tensor | None]
# torch 2.13's CPU convolutions of one small volume take up to six times as long as those of two (docs/performance.md).
# In 2D there is nothing to be saved once a few windows fill the processor.
VOLUMES, PICTURES = 64**3, 48**3
_AT_ONCE: ContextVar[int | None] = ContextVar("voxels at once", default=None)
_TOGETHER: ContextVar[bool] = ContextVar("together", default=False)


def gradient(loss: Callable[[Tensor], Tensor], windows: Tensor, moving: Sequence[Tensor]) -> tuple[float, Gradient]:
    """Mean loss over a batch of windows ``(N, C, *spatial)`` and its gradient, a few small windows at a time, or one large one.

    Only these windows' graph is alive at a time, so the peak memory does not grow with N.

    Inside `together` both are means over all processes.

    Returns:
        the loss and one gradient (or None) per moving tensor, at the moving tensors' present values.
    """
    total: Gradient = [None] * len(moving)
    value = 0.0
    for some in windows.chunk(-(-len(windows) // at_once(windows))):
        one = loss(some) * (len(some) / len(windows))
        grads = torch.autograd.grad(one, moving, allow_unused=True) if one.requires_grad else [None] * len(moving)
        total = [b if a is None else a if b is None else a + b for a, b in zip(total, grads, strict=True)]
        value += float(one.detach())
    return _shared(value, total) if _TOGETHER.get() else (value, total)


def at_once(windows: Tensor) -> int:
    """How many windows ``(N, C, *spatial)`` of this size are asked about at once while learning: those that together have
    `VOLUMES` voxels, in 2D `PICTURES` pixels, at least one."""
    told, usual = _AT_ONCE.get(), VOLUMES if windows.ndim == 5 else PICTURES
    return max(1, (usual if told is None else told) // windows[0, 0].numel())


@contextmanager
def voxels_at_once(most: int) -> Iterator[None]:
    """Inside, learning asks about windows, and views of them, of so many voxels together; 0: one after the other, as papers' code
    does."""
    token = _AT_ONCE.set(most)
    try:
        yield
    finally:
        _AT_ONCE.reset(token)


@contextmanager
def together() -> Iterator[None]:
    """Inside, gradients are means over all processes of `torch.distributed`, which must take the same ones in turn, so that
    cosines and steps come out the same everywhere."""
    token = _TOGETHER.set(True)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


def everyone(agrees: bool) -> bool:
    """Whether all processes agree; each must ask."""
    kind = "cuda" if dist.get_backend() == "nccl" else "cpu"
    vote = torch.tensor(float(agrees), device=kind)
    dist.all_reduce(vote, op=dist.ReduceOp.MIN)
    return bool(vote)


def _shared(value: float, slope: Gradient) -> tuple[float, Gradient]:
    """The means over processes of a loss and its gradient; a part that is None here is None everywhere."""
    parts = [part for part in slope if part is not None]
    if not parts:
        return value, slope
    flat = torch.cat([part.flatten() for part in parts] + [parts[0].new_tensor([value])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = iter(flat[:-1].split([part.numel() for part in parts]))
    return float(flat[-1]), [None if part is None else next(means).view_as(part) for part in slope]


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
def displaced(moving: Sequence[Tensor], direction: Gradient, reach: float) -> Iterator[None]:
    """Move tensors by ``reach * direction`` for the length of a ``with`` block, then put them back bit for bit."""
    before = [tensor.detach().clone() for tensor in moving]
    try:
        with torch.no_grad():
            for tensor, step in zip(moving, direction, strict=True):
                if step is not None:
                    tensor.add_(step, alpha=reach)
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(moving, before, strict=True):
                tensor.copy_(old)


def follow(optimizer: torch.optim.Optimizer, slope: Gradient, scale: float = 1.0) -> None:
    """One optimiser step along a gradient, with every group's learning rate multiplied by ``scale`` for this step."""
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for tensor, step in zip(tensors, slope, strict=True):
            tensor.grad = step
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        optimizer.step()
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for tensor in tensors:
            tensor.grad = None


class Rule(ABC):
    """An optimiser as a value: what to build over the moving tensors once they exist."""

    rate: float

    @abstractmethod
    def over(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build the torch optimiser over these tensors."""


@dataclass(frozen=True, kw_only=True)
class Adam(Rule):
    """Adam without weight decay (GraTa's default: rate 1e-4, betas .9/.999)."""

    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)

    def over(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.Adam`."""
        return torch.optim.Adam(moving, lr=self.rate, betas=self.betas)


@dataclass(frozen=True, kw_only=True)
class AdamW(Rule):
    """Adam with decoupled weight decay (torch's default, .01 per unit of rate)."""

    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.01

    def over(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.AdamW`."""
        return torch.optim.AdamW(moving, lr=self.rate, betas=self.betas, weight_decay=self.decay)


@dataclass(frozen=True, kw_only=True)
class SGD(Rule):
    """Gradient descent with (Nesterov) momentum."""

    rate: float = 1e-3
    momentum: float = 0.99
    nesterov: bool = True

    def over(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.SGD`."""
        return torch.optim.SGD(moving, lr=self.rate, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0)


class Trust(ABC):
    """How much of the learning rate a cosine in [-1, 1] deserves."""

    @abstractmethod
    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""


@dataclass(frozen=True)
class SquaredTrust(Trust):
    """``(c + 1)^2 / 4`` in [0, 1]: the map GraTa uses."""

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        return (cosine + 1) ** 2 / 4


@dataclass(frozen=True)
class LinearTrust(Trust):
    """``(c + 1) / 2`` in [0, 1]."""

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        return (cosine + 1) / 2


@dataclass(frozen=True)
class SoftplusTrust(Trust):
    """``log(1 + e^c)`` in [0.31, 1.31]."""

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        return log1p(exp(cosine))


@dataclass(frozen=True)
class RandomSign(Trust):
    """``inner(c)`` or ``inner(-c)``, by a coin: an ablation that keeps how strongly gradients agree and forgets whether.

    The coin is a digest of seed and cosine, so that the same cosine always gets the same side and nothing is remembered.
    """

    seed: int = 0
    inner: Trust = SquaredTrust()

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        heads = sha256(pack("<qd", self.seed, cosine)).digest()[0] % 2
        return self.inner(cosine if heads else -cosine)
