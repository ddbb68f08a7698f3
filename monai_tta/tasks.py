"""Which way, put together: self-supervised tasks that turn windows into a loss, each a value a method can hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_tta.objectives import cross_entropy, full_entropy, half_entropy, probabilities
from monai_tta.shadow import Shadow
from monai_tta.views import Restyling, Views


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
        target = average(shadow, windows, self.views)
        strong = self.restyling(windows, [shadow.draw() for _ in windows])
        return cross_entropy(shadow(strong), target, shadow.head)


@torch.no_grad()
def average(shadow: Shadow, windows: Tensor, views: Views) -> Tensor:
    """Mean over views of the probabilities, each brought back to the window's own pose."""
    poses = views.of(windows.shape[2:])
    answers = [pose.undo(probabilities(shadow(pose.apply(windows)), shadow.head)) for pose in poses]
    return torch.stack(answers).mean(0)
