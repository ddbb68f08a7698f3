"""Optimisers as frozen values. torch's optimiser is built from one when the moving tensors are known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["OptimizerSpec", "Adam", "AdamW", "SGD"]


class OptimizerSpec(ABC):
    """Which optimiser to use, and its settings.

    Args:
        lr: the learning rate, 0 or more.
    """

    lr: float

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it reads."""
        return ()

    @property
    def record_name(self) -> str:
        """What records call it: its repr, unless that holds a path."""
        return repr(self)

    @abstractmethod
    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build the torch optimiser over these tensors."""


@dataclass(frozen=True, kw_only=True)
class Adam(OptimizerSpec):
    """Adam without weight decay (Kingma and Ba, ICLR 2015). The defaults are those of GraTa's code.

    Args:
        lr: the learning rate, 0 or more.
        betas: decay rates of the running means of gradients and of their squares, in [0, 1).
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.Adam`."""
        return torch.optim.Adam(moving, lr=self.lr, betas=self.betas)


@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    Args:
        lr: the learning rate, 0 or more.
        betas: decay rates of the running means of gradients and of their squares, in [0, 1).
        weight_decay: each step multiplies the moving tensors by ``1 - lr * weight_decay``. 0 or more; 0.01 is torch's default.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.AdamW`."""
        return torch.optim.AdamW(moving, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class SGD(OptimizerSpec):
    """Gradient descent with momentum.

    Args:
        lr: the learning rate, 0 or more.
        momentum: in [0, 1).
        nesterov: whether to use Nesterov's momentum; without effect where ``momentum`` is 0.
    """

    lr: float = 1e-3
    momentum: float = 0.99
    nesterov: bool = True

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build `torch.optim.SGD`."""
        return torch.optim.SGD(moving, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0)
