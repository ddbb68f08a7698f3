"""SAR: sharpness-aware and reliable entropy minimisation (Niu et al.; ICLR 2023; arXiv 2302.12400)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.gradients import length
from monai_tta.core.method import Descent, Loss
from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.objectives import Head, largest_entropy, voxel_entropy
from monai_tta.core.optimizers import SGD, OptimizerSpec
from monai_tta.core.record import Step
from monai_tta.core.selection import ExceptLast, Selection
from monai_tta.core.shadow import Shadow


class RecoveringShadow(Shadow):
    """A shadow that knows which voxels were reliable in the first of two passes, and how its loss compares to the source's.

    Attributes:
        average: moving average of the loss as a share of the source's; None before the first step and after a recovery.
        found: what was reliable in the first pass, batch by batch; None outside a step.
        is_displaced: whether the second pass is on, which takes from ``found``.
    """

    def __init__(self, source: nn.Module, head: Head, select: Selection, statistics: StatisticsFrom, blend: float) -> None:
        super().__init__(source, head, select, statistics, blend)
        self.average: float | None = None
        self.found: list[Tensor] | None = None
        self.is_displaced = False

    def state(self) -> dict[str, Any]:
        """What the stream has learnt, with the moving average."""
        return super().state() | {"average": self.average}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.average = state["average"]


@dataclass(frozen=True, kw_only=True)
class SAR(Descent):
    """Go down the entropy of voxels that are not too uncertain, towards a flat place; go back to the source where it collapses.

    Niu et al., ICLR 2023, arXiv 2302.12400. Voxels count whose entropy is below ``reliable`` times the largest. The gradient is
    taken ``radius`` away, in the direction in which the loss rises, over those that are below the threshold there, too. A moving
    average of the loss (0.9 of the old one) that falls too low sends the weights back to the source.

    A step costs two forward and backward passes of the adaptation windows, and a forward pass of the source's weights for the
    recovery. It keeps the moving average, no image, and needs nothing from the source.

    Ours: a sample is a voxel, and each window's loss is the mean over its reliable voxels. Thresholds are shares of log C, where
    the published 0.4 log 1000 would drop no voxel of four classes. The published limit of the average, 0.2 nats, is above what a
    good mask has on average, since most voxels are certain background: it would reset at every image. The limit is a share of
    the loss that the source's weights have on the same windows. After a recovery the average starts anew; in the authors' code
    it keeps the low value and resets again. Where no voxel is reliable there is no step. The paper spares the last block of a
    classifier; here the last fifth of the layers, which is the end of most decoders. The answer comes after the step.

    Args:
        reliable: a voxel's entropy must be below this share of the largest, above 0 and at most 1.
        radius: how far away the second gradient is taken, in parameter space; 0 or more.
        reset_below: the least average loss, as a share of the source's on the same windows; 0 never resets.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = ExceptLast()
    optimizer: OptimizerSpec = SGD(lr=2.5e-4, momentum=0.9, nesterov=False)
    reliable: float = 0.4
    radius: float = 0.05
    reset_below: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.reliable <= 1 or self.radius < 0 or not 0 <= self.reset_below < 1:
            raise ValueError(
                "reliable is above 0 and at most 1, radius 0 or more and reset_below in [0, 1), found "
                f"{self.reliable}, {self.radius} and {self.reset_below}"
            )

    @property
    def is_continual(self) -> bool:
        """Yes: it recovers from what a stream does to it."""
        return True

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow at the source, without an average."""
        shadow = RecoveringShadow(source, head, self.select, self.statistics, self.blend)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean over windows of the mean entropy of their reliable voxels, in nats; 0 for a window without any."""
        logits = shadow(windows)
        entropy = voxel_entropy(logits, shadow.head)
        keep = entropy.detach() < self.reliable * largest_entropy(logits, shadow.head)
        if isinstance(shadow, RecoveringShadow) and shadow.found is not None:
            if shadow.is_displaced:
                keep &= shadow.found.pop(0)
            else:
                shadow.found.append(keep)
        return mean_over_kept(entropy, keep)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step along the gradient at the displaced weights, and a recovery where the average loss is too low."""
        assert isinstance(shadow, RecoveringShadow)
        with torch.no_grad(), shadow.holding(shadow.start):
            of_source, _ = shadow.gradient(loss, windows)
        shadow.found = []
        try:
            value, gradient = shadow.gradient(loss, windows)
            shadow.is_displaced = True
            with shadow.displaced(gradient, self.radius / (length(gradient) + 1e-12)):
                displaced_value, sharp = shadow.gradient(loss, windows)
        finally:
            shadow.found = None
            shadow.is_displaced = False
        if length(sharp) != 0 or all(part is None for part in sharp):
            shadow.step_along(sharp)
        recovers = self._recover(shadow, displaced_value / of_source if of_source > 0 else None)
        losses = {"loss": value, "displaced": displaced_value}
        return Step(losses=losses, lr=self.optimizer.lr, notes={"recovered": float(recovers)})

    def _recover(self, shadow: RecoveringShadow, share: float | None) -> bool:
        """Follow the average, and go back to the source where it is too low; return whether."""
        if share is None or share != share:
            return False
        shadow.average = share if shadow.average is None else 0.9 * shadow.average + 0.1 * share
        if shadow.average >= self.reset_below:
            return False
        with torch.no_grad():
            for tensor, start in zip(shadow.moving, shadow.start, strict=True):
                tensor.copy_(start)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        shadow.average = None
        return True


def mean_over_kept(values: Tensor, keep: Tensor) -> Tensor:
    """The mean over windows of the mean of ``values`` ``(N, ...)`` where ``keep``; 0 for a window where nothing is kept."""
    total = (values * keep).flatten(1).sum(1)
    return (total / keep.flatten(1).sum(1).clamp_min(1)).mean()
