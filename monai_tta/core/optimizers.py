"""Optimisers as values: what to build over the moving tensors once they exist."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OptimizerSpec", "Adam", "AdamW", "SGD"]


class OptimizerSpec(ABC):
    """An optimiser as a value: what to build over the moving tensors once they exist."""

    lr: float

    @abstractmethod
    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build the torch optimiser over these tensors."""


@dataclass(frozen=True, kw_only=True)
class Adam(OptimizerSpec):
    """Adam without weight decay (GraTa's default: rate 1e-4, betas .9/.999)."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.Adam`."""
        return torch.optim.Adam(moving, lr=self.lr, betas=self.betas)


@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay (torch's default, .01 per unit of rate)."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.01

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.AdamW`."""
        return torch.optim.AdamW(moving, lr=self.lr, betas=self.betas, weight_decay=self.decay)


@dataclass(frozen=True, kw_only=True)
class SGD(OptimizerSpec):
    """Gradient descent with (Nesterov) momentum."""

    lr: float = 1e-3
    momentum: float = 0.99
    nesterov: bool = True

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.SGD`."""
        return torch.optim.SGD(moving, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0)
