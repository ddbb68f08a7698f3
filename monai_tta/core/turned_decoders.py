"""A night by turned decoders: UPL-SFDA (Wu et al.; IEEE TMI 2023; arXiv 2309.10244)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from monai_tta.compute.checkpointing import checkpointed
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.gradients import Gradient, finite, step_along
from monai_tta.core.network_copy import copy_sharing_parameters
from monai_tta.core.night import NightWork, move_statistics
from monai_tta.core.objectives import Head, class_log_probabilities
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.selection import Everything
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import View

__all__ = ["TurnedDecoders"]


@dataclass(frozen=True, kw_only=True)
class TurnedDecoders(NightWork):
    """Teach an encoder and four copies of its decoder, each of which sees the images in a turn of its own, what all agree on.

    UPL-SFDA (Wu et al., IEEE TMI 2023, arXiv 2309.10244; HiLab-git/UPL-SFDA), for `DyNA`'s night. The pseudo-label is where the
    mean of the four answers is above ``reliable``, of each class the largest component. The loss is the mean over copies
    of one minus Dice, counted on labelled voxels, plus the entropy of the mean answer. An image and epoch cost four forward
    passes and, because what is inside them is computed again, four more with the backward passes. It keeps no image, needs
    none of the source's, and nothing of its training.

    Ours: a checkpoint has one decoder, which gets the mean of the copies' weights; the paper answers by all four. The copies
    differ by their turns alone: the paper also has dropout in them, which most trained networks lack, and normalises by each
    batch's statistics, where we move the running ones first and keep them. The mean over copies is the one of its 2D
    code; the 3D code has the sum. Its scripts choose the epoch by labels of the target; here it is the last one.
    Where the two last sides of a window differ, two mirrors take the place of the quarter turns.

    Args:
        decoder: a regular expression for the names of the decoder's parameters, such as "^(up|decoder|head)". The rest is
            the encoder.
        encoder_optimizer: of the encoder.
        decoder_optimizer: of each decoder.
        epochs: how often the night goes over the day's images, 1 or more; the paper's 2D code has 10, the 3D code 15.
        reliable: the mean probability above which a voxel is labelled, in [0.5, 1).
        statistics_share: how far the running statistics go to the day's, as a share of the way, in [0, 1], before the first step.
        seed: of the order of images.

    Raises:
        ValueError: for choices out of range.
    """

    decoder: str = ""
    encoder_optimizer: OptimizerSpec = Adam(lr=1e-5)
    decoder_optimizer: OptimizerSpec = Adam(lr=1e-5, betas=(0.5, 0.999))
    epochs: int = 10
    reliable: float = 0.95
    statistics_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0.5 <= self.reliable < 1 or not 0 <= self.statistics_share <= 1:
            raise ValueError(
                "epochs is 1 or more, reliable in [0.5, 1) and statistics_share in [0, 1], found "
                f"{self.epochs}, {self.reliable} and {self.statistics_share}"
            )

    def learn(self, source: nn.Module, day: Sequence[Tensor], head: Head) -> dict[str, Tensor]:
        """What of a network's state changes; see `NightWork.learn`.

        Args:
            source: the network; never written to.
            day: windows ``(N, C, *spatial)`` of each image.
            head: what its logits stand for, "softmax" or "sigmoid".

        Raises:
            CannotAdapt: for a day without images, or where ``decoder`` names no parameter, or all of them.
            FloatingPointError: when a gradient is not finite.
        """
        if not day:
            raise CannotAdapt("the day has kept no image to learn from")
        start = copy_sharing_parameters(source)
        changed = move_statistics(start, day, head, self.statistics_share)
        copies = [Shadow(start, head, Everything()) for _ in range(4)]
        names = [name for name in copies[0].names if re.search(self.decoder, name)] if self.decoder else []
        if not names or len(names) == len(copies[0].names):
            parts = ", ".join(name for name, _ in start.named_children())
            raise CannotAdapt(
                f"decoder={self.decoder!r} names {len(names)} of {len(copies[0].names)} parameters of {type(source).__name__}; "
                f"give a regular expression for those of its decoder. Its parts are: {parts}"
            )
        encoder = [name for name in copies[0].names if name not in names]
        for copy in copies[1:]:
            _share(copies[0].module, copy.module, encoder)
        groups = [_parameters(copies[0], encoder), *(_parameters(copy, names) for copy in copies)]
        specs = [self.encoder_optimizer, *[self.decoder_optimizer] * 4]
        optimizers = [spec.build(group) for spec, group in zip(specs, groups, strict=True)]
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            for number in torch.randperm(len(day), generator=generator).tolist():
                self._step(copies, groups, optimizers, day[number])
        known = source.state_dict()
        learnt: dict[str, Tensor] = {name: copies[0].module.get_parameter(name) for name in encoder}
        learnt |= {name: torch.stack([copy.module.get_parameter(name) for copy in copies]).mean(0) for name in names}
        return changed | {name: tensor.detach().to(known[name].dtype, copy=True) for name, tensor in learnt.items()}

    def _step(self, copies: list[Shadow], groups: list[list[nn.Parameter]], optimizers: list[Any], windows: Tensor) -> None:
        """One step of the encoder and all decoders on the windows ``(N, C, *spatial)`` of one image."""
        windows = windows.to(groups[0][0])
        poses = _turns(windows.shape[2:])
        answers = [pose.undo(checkpointed(copy, pose.apply(windows))) for copy, pose in zip(copies, poses, strict=True)]
        each = [class_log_probabilities(logits, copies[0].head).exp() for logits in answers]
        mean = torch.stack(each).mean(0)
        label = self._label(mean.detach())
        loss = torch.stack([_distance(p, label) for p in each]).mean() + _entropy_in_bits(mean)
        gradient: Gradient = list(torch.autograd.grad(loss, [tensor for group in groups for tensor in group], allow_unused=True))
        if all(part is None for part in gradient):
            raise CannotAdapt(f"no gradient reaches the weights of {copies[0].kind}")
        if not finite(gradient):
            raise FloatingPointError("the gradient is not finite; the night has stopped")
        for optimizer, group in zip(optimizers, groups, strict=True):
            step_along(optimizer, [gradient.pop(0) for _ in group])

    def _label(self, mean: Tensor) -> Tensor:
        """Zeros and ones ``(N, Q, C, *spatial)``: where the mean answer is sure, of each class the largest component."""
        sure = (mean > self.reliable).cpu().numpy()
        kept = [_largest_component(mask) for mask in sure.reshape(-1, *sure.shape[3:])]
        return torch.from_numpy(np.stack(kept).reshape(sure.shape)).to(mean)


def _turns(shape: Sequence[int]) -> list[View]:
    """A pose for each copy: quarter turns in the plane of the last two axes, or mirrors where their sides differ."""
    plane = len(shape) - 2, len(shape) - 1
    if shape[plane[0]] == shape[plane[1]]:
        return [View(turns=turns, plane=plane) for turns in (1, 2, 3, 0)]
    return [View(mirrors=plane[:1]), View(turns=2, plane=plane), View(mirrors=plane[1:]), View()]


def _largest_component(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A mask's largest component, whose voxels share faces."""
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else mask


def _distance(p: Tensor, label: Tensor) -> Tensor:
    """One minus Dice of an answer ``(N, Q, C, *spatial)`` within each class's label; 0 for a class without one."""
    inside, size = (p * label).flatten(3).sum(3), label.flatten(3).sum(3)
    return (1 - (2 * inside + 1e-5) / (inside + size + 1e-5)).mean()


def _entropy_in_bits(p: Tensor) -> Tensor:
    """The mean over voxels, questions and classes of ``-p log2 p``."""
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log2()).mean()


def _share(owner: nn.Module, other: nn.Module, names: Sequence[str]) -> None:
    """Let another copy of a network use the owner's parameters of these names."""
    for name in names:
        path, _, key = name.rpartition(".")
        other.get_submodule(path)._parameters[key] = owner.get_parameter(name)


def _parameters(copy: Shadow, names: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of these names, tied ones once."""
    return list(dict.fromkeys(copy.module.get_parameter(name) for name in names))
