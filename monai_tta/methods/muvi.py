"""MuVi: multi-view test-time adaptation of a volume (Joshi et al.; MICCAI 2025; arXiv 2506.23705)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from monai_tta.compute.checkpointing import checkpointed
from monai_tta.core.deep_features import logits_and_deepest
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.gradients import length
from monai_tta.core.method import Descent, Loss
from monai_tta.core.objectives import class_log_probabilities, dice_and_cross_entropy, largest_entropy, voxel_entropy
from monai_tta.core.optimizers import SGD, OptimizerSpec
from monai_tta.core.orientations import AxesOrder, orientations_of
from monai_tta.core.record import Step
from monai_tta.core.selection import Everything, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.window_inputs import refuse_views_of_window_inputs


@dataclass(frozen=True, kw_only=True)
class MuVi(Descent):
    """Learn what the source is sure of when it sees a volume along any of its axes, and to answer alike along all of them.

    Joshi et al., MICCAI 2025, arXiv 2506.23705; code at smriti-joshi/muvi. A window of equal sides is shown with its axes in
    three orders. Foreground is what the source surely calls so in any of them. The loss is the sum of three terms: Dice and
    cross-entropy to these pseudo-labels, Dice and cross-entropy of the two turned answers to the unturned one, and the
    cosine distance of their deepest features.

    It is meant for volumes of equal spacing along each axis, which it cannot check, and each image starts at the source
    (reset="volume"). There is one step for each adaptation window. A step costs, in each orientation, three forward passes and a
    backward pass; what is inside a pass is computed again in the backward pass, so memory is that of one orientation. It keeps
    nothing and needs nothing from the source.

    Ours: the paper adapts on every window of a volume, here on four unless ``budget=None`` says all. Its labels are binary; where
    several classes are sure of a voxel the most probable one counts. Thresholds are shares of log C; the published 0.4 and 0.2
    nats are 0.577 and 0.289 of log 2. Each term is a mean over orientations. The cosine is taken at each place over
    channels, where the code compares number by number. There is no weight decay, and mixed precision is the inferer's to choose.
    In 2D there are two orientations.

    Args:
        reliable: how uncertain the source may be of a voxel in the unturned window, as a share of the largest entropy; in (0, 1].
        reliable_turned: the same for the other orientations.
        max_length: gradients longer than this are shortened to it, above 0.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = Everything()
    optimizer: OptimizerSpec = SGD(lr=1e-3, momentum=0.99, nesterov=True)
    reliable: float = 0.577
    reliable_turned: float = 0.289
    max_length: float = 12.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.reliable <= 1 or not 0 < self.reliable_turned <= 1 or self.max_length <= 0:
            raise ValueError(
                "reliable and reliable_turned are above 0 and at most 1, and max_length is above 0, found "
                f"{self.reliable}, {self.reliable_turned} and {self.max_length}"
            )

    @property
    def default_budget(self) -> int:
        """Four, with a step for each."""
        return 4

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The sum of the three terms.

        Raises:
            CannotAdapt: for windows of unequal sides, or a network whose features differ in shape along the axes.
        """
        refuse_views_of_window_inputs(*shadow.extra)
        orientations = orientations_of(windows.shape[2:])
        target = self._pseudo_labels(shadow, windows, orientations)
        seen = [checkpointed(partial(_seen, shadow, one), windows) for one in orientations]
        (own, own_features), *turned = seen
        to_source = [dice_and_cross_entropy(log_p, target) for log_p, _ in seen]
        own_answer = own.detach().argmax(2)
        to_own = [dice_and_cross_entropy(log_p, own_answer) for log_p, _ in turned]
        if any(features.shape != own_features.shape for _, features in turned):
            raise CannotAdapt(f"{shadow.kind} sees some axes more coarsely than others, so its features differ by orientation")
        distances = [1 - torch.cosine_similarity(features, own_features, dim=1).mean() for _, features in turned]
        return torch.stack(to_source).mean() + torch.stack(to_own).mean() + torch.stack(distances).mean()

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Go ``steps`` times over the windows, with a step for each; for all at once where several processes adapt together."""
        batches = [windows] if shadow.over_processes else list(windows.split(1))
        return tuple(self.step(shadow, some, loss) for _ in range(self.steps) for some in batches)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step down the loss, along a gradient that is not too long."""
        value, gradient = shadow.gradient(loss, windows)
        factor = min(1.0, self.max_length / (length(gradient) + 1e-12))
        shadow.step_along(gradient if factor == 1 else [None if part is None else factor * part for part in gradient])
        return Step(losses={"loss": value}, lr=self.optimizer.lr)

    @torch.no_grad()
    def _pseudo_labels(self, shadow: Shadow, windows: Tensor, orientations: list[AxesOrder]) -> Tensor:
        """Class numbers ``(N, Q, *spatial)``: what the source's weights surely call foreground in any orientation, else 0."""
        best: Tensor | None = None
        with shadow.holding(shadow.start):
            for number, orientation in enumerate(orientations):
                logits = orientation.undo(shadow(orientation.apply(windows)))
                log_p = class_log_probabilities(logits, shadow.head)
                entropy = voxel_entropy(logits, shadow.head)[:, :, None]
                share = self.reliable_turned if number else self.reliable
                sure = (entropy <= share * largest_entropy(logits, shadow.head)) & _is_largest(log_p)
                p = torch.where(sure, log_p.exp(), 0.0)
                best = p if best is None else torch.maximum(best, p)
        assert best is not None
        foreground, label = best[:, :, 1:].max(2)
        return torch.where(foreground > 0, label + 1, 0)


def _is_largest(log_p: Tensor) -> Tensor:
    """Where a class is the answer."""
    return log_p == log_p.amax(2, keepdim=True)


def _seen(shadow: Shadow, orientation: AxesOrder, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``(N, Q, C, *spatial)`` and deepest features of windows in an orientation, brought back from it."""
    logits, features = logits_and_deepest(shadow, orientation.apply(windows))
    return class_log_probabilities(orientation.undo(logits), shadow.head), orientation.undo(features)
