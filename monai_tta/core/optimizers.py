"""Optimisers as frozen values. torch's optimiser is built from one when the moving tensors are known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from monai_tta.core.learned_optimizer import LearnedOptimizer
from monai_tta.core.learned_optimizer_file import AUTO, file_for_checkpoint, load_optimizer

__all__ = ["OptimizerSpec", "Adam", "AdamW", "SGD", "Learned"]


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
        """Build the torch optimiser over these tensors.

        Raises:
            CannotAdapt: when the optimiser cannot be used on them.
        """

    def for_checkpoint(self, weights: Path) -> OptimizerSpec:
        """This optimiser with what belongs to one checkpoint, such as a file beside the file of weights."""
        return self


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


@dataclass(frozen=True, kw_only=True)
class Learned(OptimizerSpec):
    """A small recurrent network that was trained to make steps: MGG (Deng et al., AAAI 2025, arXiv 2412.16901).

    It belongs to one network and one selection of its tensors, and its file says which. Attached scales and shifts start alike
    in all networks, so only their shapes are told apart. Usable by every method that takes an optimiser. Within a case it
    remembers earlier gradients from its second step on, so it needs several steps, or a stream. The arithmetic, and what is ours
    in it: `monai_tta.core.learned_optimizer`.

    Args:
        file: what `monai-tta train-optimizer` wrote. "auto" is the file beside a bundle's checkpoint, where `monai-tta`
            finds one.
        lr: the learning rate, 0 or more: the most that a coordinate moves in one step. The default is that of the authors' test
            script.
    """

    file: str = AUTO
    lr: float = 1e-3

    @property
    def record_name(self) -> str:
        """With the name of the file alone. Its folder is nobody's business."""
        return repr(replace(self, file=Path(self.file).name))

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, where one is named."""
        return () if self.file == AUTO else (Path(self.file),)

    def for_checkpoint(self, weights: Path) -> Learned:
        """For "auto", the file beside a file of weights, where there is one.

        Raises:
            OptimizerFileError: when a file cannot be read.
        """
        return replace(self, file=file_for_checkpoint(self.file, weights))

    def build(self, moving: Sequence[Tensor]) -> torch.optim.Optimizer:
        """Build a `LearnedOptimizer` with an empty memory.

        Raises:
            CannotAdapt: without a file that can be read, or for another network's tensors.
        """
        trained = load_optimizer(self.file)
        trained.check_fits(moving, self.file)
        return LearnedOptimizer(moving, trained.weights, lr=self.lr)
