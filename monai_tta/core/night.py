"""A night: self-training of a network on the unlabelled windows that a day has kept, with a teacher and two students."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import copy_sharing_parameters
from monai_tta.core.norm_uses import joint
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.objectives import Head, cross_entropy
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.restyling import Restyling
from monai_tta.core.selection import Everything, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import view_average
from monai_tta.core.views import Views

__all__ = ["Night"]


class NightWork(ABC):
    """What a night does with the images that a day has kept. A frozen value."""

    @abstractmethod
    def learn(self, source: nn.Module, day: Sequence[Tensor], head: Head) -> dict[str, Tensor]:
        """What of a network's state changes.

        Args:
            source: the network; never written to.
            day: windows ``(N, C, *spatial)`` of each image.
            head: what its logits stand for, "softmax" or "sigmoid".

        Returns:
            tensors by their names in ``source.state_dict()``.

        Raises:
            CannotAdapt: for a day without images, or a network that this night cannot teach.
            FloatingPointError: when a gradient is not finite.
        """


@dataclass(frozen=True, kw_only=True)
class Night(NightWork):
    """How a night learns.

    DyNA (Chen et al., arXiv 2410.13472) publishes that a teacher, which is a moving average, a student and a global student learn
    from the day's images. Its losses, rates and schedule are not published. This is a reconstruction. The student starts at
    the global student. For each image, it learns to predict for the restyled windows what the teacher and the global student
    predict on average over the plain windows' views. After each step the global student moves a little towards the
    student, and the teacher a little towards the global student. The global student is the night's result.

    Args:
        select: which parameters may move. Selections that add parameters are refused: a checkpoint has no place for them.
        optimizer: the student's optimiser and its learning rate.
        epochs: how often the night goes over the day's images, 1 or more.
        global_decay: the share of itself that the global student keeps at each step, in [0, 1].
        teacher_decay: the share of itself that the teacher keeps at each step, in [0, 1].
        statistics_share: how far the running statistics go to the day's, as a share of the way, in [0, 1], before the first step.
        views: which mirrors and turns the teacher averages over.
        restyling: a callable ``(windows, seeds) -> windows`` that changes how the student's windows look.
        seed: of the order of images and of the restyling.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = Everything()
    optimizer: OptimizerSpec = Adam(lr=1e-4)
    epochs: int = 2
    global_decay: float = 0.99
    teacher_decay: float = 0.999
    statistics_share: float = 0.1
    views: Views = Views()
    restyling: Any = Restyling()
    seed: int = 0

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("global_decay", "teacher_decay", "statistics_share")}
        if self.epochs < 1 or not all(0 <= share <= 1 for share in shares.values()):
            raise ValueError(f"epochs is 1 or more and shares are in [0, 1], found epochs={self.epochs} and {shares}")

    def learn(self, source: nn.Module, day: Sequence[Tensor], head: Head) -> dict[str, Tensor]:
        """What of a network's state changes; see `NightWork.learn`.

        Args:
            source: the network; never written to.
            day: windows ``(N, C, *spatial)`` of each image.
            head: what its logits stand for, "softmax" or "sigmoid".

        Raises:
            CannotAdapt: for a day without images, or a selection that adds parameters or finds none.
            FloatingPointError: when a gradient is not finite.
        """
        if not day:
            raise CannotAdapt("the day has kept no image to learn from")
        start = copy_sharing_parameters(source)
        changed = move_statistics(start, day, head, self.statistics_share)
        teacher, global_student, student = (Shadow(start, head, self.select) for _ in range(3))
        known = source.state_dict()
        if added := [name for name in student.names if name not in known]:
            raise CannotAdapt(f"{self.select!r} adds parameters ({added[0]}, ...), for which a checkpoint has no place")
        student.optimizer = self.optimizer.build(student.moving)
        student.seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            for number in torch.randperm(len(day), generator=generator).tolist():
                self._step(teacher, global_student, student, day[number])
        learnt = {name: global_student.module.get_parameter(name).detach() for name in global_student.names}
        moved = {name: tensor.to(known[name].dtype, copy=True) for name, tensor in learnt.items()}
        return changed | moved

    def _step(self, teacher: Shadow, global_student: Shadow, student: Shadow, windows: Tensor) -> None:
        """One step of the student, after which the averages follow."""
        weights = student.moving[0]
        windows = windows.to(device=weights.device, dtype=weights.dtype)
        target = 0.5 * (view_average(teacher, windows, self.views) + view_average(global_student, windows, self.views))
        restyled = self.restyling(windows, [student.draw() for _ in windows])
        loss = cross_entropy(student(restyled), target, student.head)
        student.step_along(list(torch.autograd.grad(loss, student.moving, allow_unused=True)))
        _follow(global_student, student, self.global_decay)
        _follow(teacher, global_student, self.teacher_decay)


def move_statistics(network: nn.Module, day: Sequence[Tensor], head: Head, share: float) -> dict[str, Tensor]:
    """Move a private copy's running statistics towards the day's; return the new ones by name.

    Args:
        network: the copy.
        day: windows ``(N, C, *spatial)`` of each image.
        head: what its logits stand for.
        share: how much of the way, in [0, 1].
    """
    observer = Shadow(network, head, None, "volume")
    layers = {name: m for name, m in observer.module.named_modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats}
    if not layers or not share:
        return {}
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    for windows in day:
        running = next(iter(layers.values())).running_mean
        assert running is not None
        observer.pool_statistics(windows.to(device=running.device, dtype=running.dtype))
        for name, layer in layers.items():
            if (pooled := layer.pooled_over_uses()) is not None:
                found[name].append(pooled)
    changed: dict[str, Tensor] = {}
    for name, pairs in found.items():
        if not pairs:  # behind a global pooling there is nothing to pool
            continue
        for key, day_value in zip(("running_mean", "running_var"), joint(pairs), strict=True):
            norm = network.get_submodule(name)
            old = getattr(norm, key)
            new = (1 - share) * old + share * day_value.to(old.dtype)
            setattr(norm, key, new)
            changed[f"{name}.{key}" if name else key] = new
    return changed


@torch.no_grad()
def _follow(average: Shadow, other: Shadow, decay: float) -> None:
    """Move an average's tensors towards another shadow's."""
    for old, new in zip(average.moving, other.moving, strict=True):
        old.mul_(decay).add_(new, alpha=1 - decay)
