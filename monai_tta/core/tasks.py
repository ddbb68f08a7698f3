"""Which way, put together: self-supervised tasks that turn windows into a loss, each a value a method can hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.checkpointing import is_out_of_memory
from monai_tta.compute.precision import at_least_float32
from monai_tta.compute.window_batches import windows_at_once
from monai_tta.core.auxiliary_heads import denoise, double, heads_of, reconstruct, tell_pose
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import cross_entropy, full_entropy, half_entropy, probabilities
from monai_tta.core.restyling import Restyling
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views

__all__ = [
    "Task",
    "EntropyTask",
    "ConsistencyTask",
    "HeadTask",
    "ReconstructionTask",
    "DenoisingTask",
    "SuperResolutionTask",
    "RotationTask",
]


class Task(ABC):
    """A question a network can be asked about an image without a label."""

    @abstractmethod
    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """A scalar loss for windows ``(N, C, *spatial)``."""


@dataclass(frozen=True, kw_only=True)
class EntropyTask(Task):
    """Be certain. ``half=True`` is the form of the GraTa code, ``half=False`` the whole entropy (TENT)."""

    half: bool = False

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean entropy of the answer, in nats."""
        return (half_entropy if self.half else full_entropy)(shadow(windows), shadow.head)


@dataclass(frozen=True, kw_only=True)
class ConsistencyTask(Task):
    """Answer a restyled window as the views of the plain one are answered on average (GraTa, eq. 4).

    ``restyling`` is any callable ``(windows, seeds) -> windows``.
    """

    views: Views = Views()
    restyling: Any = Restyling()

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy to the mean of the views' probabilities; the teacher takes no gradient."""
        target = view_average(shadow, windows, self.views)
        strong = self.restyling(windows, [shadow.draw() for _ in windows])
        return cross_entropy(shadow(strong), target, shadow.head)


class HeadTask(Task):
    """A task that needs `monai_tta.core.auxiliary_heads.AuxiliaryHeads` on the source network, trained with it."""

    @abstractmethod
    def ask(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The loss, once heads are known to be there."""

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The loss.

        Raises:
            CannotAdapt: when the source has no heads, or heads that do not fit these windows.
        """
        try:
            heads_of(shadow.module)
            return self.ask(shadow, windows)
        except ValueError as error:
            raise CannotAdapt(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class ReconstructionTask(HeadTask):
    """Paint the window from its bottleneck: mean squared error (GraTa's ``recon``)."""

    def ask(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """In squared units of the image."""
        return reconstruct(shadow.module, windows, *shadow.extra[0], **shadow.extra[1])


@dataclass(frozen=True, kw_only=True)
class DenoisingTask(HeadTask):
    """Paint the window from a noisy one (GraTa's ``denoise``); ``deviation`` of the noise in units of the image."""

    deviation: float = 0.1

    def ask(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """In squared units of the image."""
        seeds = [shadow.draw() for _ in windows]
        return denoise(shadow.module, windows, seeds, *shadow.extra[0], deviation=self.deviation, **shadow.extra[1])


@dataclass(frozen=True, kw_only=True)
class SuperResolutionTask(HeadTask):
    """Paint the window from one of half its size (GraTa's ``supres``)."""

    def ask(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """In squared units of the image."""
        return double(shadow.module, windows, *shadow.extra[0], **shadow.extra[1])


@dataclass(frozen=True, kw_only=True)
class RotationTask(HeadTask):
    """Tell the pose a window was turned into (GraTa's ``rotate``: six poses in 2D; ours in 3D: eight mirror images).

    One pose per window is drawn from the shadow's seed.
    """

    def ask(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """In nats."""
        seeds = [shadow.draw() for _ in windows]
        return tell_pose(shadow.module, windows, seeds, *shadow.extra[0], **shadow.extra[1])


@torch.no_grad()
def view_average(shadow: Shadow, windows: Tensor, views: Views) -> Tensor:
    """Mean over views of the probabilities, each brought back to the window's own pose; in float32 at least."""
    return torch.stack(answers_of_views(shadow, windows, views)).mean(0)


@torch.no_grad()
def answers_of_views(shadow: Shadow, windows: Tensor, views: Views) -> list[Tensor]:
    """The probabilities of each view, brought back to the window's own pose; in float32 at least."""
    poses = views.of(windows.shape[2:])
    answers = _each(shadow, [pose.apply(windows) for pose in poses])
    return [pose.undo(probabilities(at_least_float32(logits), shadow.head)) for pose, logits in zip(poses, answers, strict=True)]


def _each(shadow: Shadow, posed: list[Tensor]) -> Iterator[Tensor]:
    """Logits of each view. Small windows leave a processor waiting, so that several views are asked about at once, where memory
    allows; statistics are each window's own or fixed, never a batch's. What else a network is given belongs to the windows
    as they were cut, one view at a time."""
    few = max(1, windows_at_once(posed[0], shadow.voxels_at_once) // len(posed[0]))
    if few > 1 and not any(shadow.extra) and len({view.shape for view in posed}) == 1:
        try:
            batches = [shadow(torch.cat(posed[k : k + few])) for k in range(0, len(posed), few)]
            yield from torch.cat(batches).split(len(posed[0]))
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    yield from map(shadow, posed)
