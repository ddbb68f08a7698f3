"""CoTTA: continual test-time domain adaptation (Wang, Fink, Van Gool, Dai; CVPR 2022; arXiv 2203.13591)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.method import Descent, Loss
from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.objectives import Head, class_log_probabilities
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.record import Step
from monai_tta.core.restyling import Restyling
from monai_tta.core.selection import Everything, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.core.window_inputs import refuse_views_of_window_inputs

SURE = 0.95  # a voxel whose likeliest class is less likely than this counts in the source's confidence


class TeacherShadow(Shadow):
    """A shadow that answers as a teacher, whose weights follow those of a student; the moving tensors are the student's.

    Attributes:
        teacher: the teacher's value of each moving tensor.
    """

    def __init__(self, source: nn.Module, head: Head, select: Selection, statistics: StatisticsFrom, blend: float) -> None:
        super().__init__(source, head, select, statistics, blend)
        self.teacher = [tensor.detach().clone() for tensor in self.moving]
        self._is_student = False

    def outputs(self, windows: Tensor) -> Any:
        """The teacher's answer; the student's within `as_student`."""
        if self._is_student:
            return super().outputs(windows)
        with self.holding(self.teacher):
            return super().outputs(windows)

    @contextmanager
    def as_student(self) -> Iterator[None]:
        """A ``with`` block in which the shadow answers with whatever the moving tensors hold."""
        before = self._is_student
        self._is_student = True
        try:
            yield
        finally:
            self._is_student = before

    @property
    def weight_distance(self) -> float:
        """Euclidean distance of the teacher's tensors from the source's."""
        return float(sum(((a - b) ** 2).sum() for a, b in zip(self.teacher, self.start, strict=True))) ** 0.5

    def state(self) -> dict[str, Any]:
        """What the stream has learnt, with the teacher."""
        return super().state() | {"teacher": [tensor.clone() for tensor in self.teacher]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        for tensor, saved in zip(self.teacher, state["teacher"], strict=True):
            tensor.copy_(saved)


@dataclass(frozen=True, kw_only=True)
class CoTTA(Descent):
    """Let a student follow a teacher's answer, the teacher follow the student slowly, and a few weights return to the source.

    Wang, Fink, Van Gool, Dai, CVPR 2022, arXiv 2203.13591. The loss is the cross-entropy from the teacher's to the student's
    answer. Where the source is not confident of a window, the teacher's answer is the mean of its logits over restyled views.
    After the student's step the teacher moves by 1 - ``decay`` of the way to it, and each number of the student goes back to
    the source's with chance ``restore``. All parameters move, under present statistics. Student and teacher start alike, so
    nothing is learnt as long as the source is confident of every window.

    It is meant for streams (reset="never"). A step costs three forward passes and a backward pass of the adaptation windows, and
    a forward pass for each view where the source is unsure. It keeps a second copy of the moving weights, no image; the source's
    own are shared. It needs nothing from the source.

    Ours: confidence is the mean over voxels that the source calls foreground, or of which it is not sure: over all voxels it is
    above any threshold, since most are certain background. Each window has its own. Views are put back in place before they are
    averaged; a classifier's need not be. There are 8 of them, 32 in the paper. The teacher answers after its step, as in ports
    to segmentation. The rate, ``decay`` and ``restore`` are those for CIFAR; the authors' code for ImageNet has 0.001 for
    ``restore`` and a symmetric loss.

    Args:
        decay: how much of the teacher stays in each step, in [0, 1]. With 1 it is the source.
        restore: the chance of each of the student's numbers to go back, in [0, 1].
        confidence: below this mean probability of the likeliest class, the teacher's views are averaged; in [0, 1]. 0 for never.
        n_views: how many views, 1 or more.
        views: the poses that they take in turn.
        restyling: a callable ``(windows, seeds) -> windows`` that changes how windows look, see `Restyling`.
        symmetric: whether half of the loss is the cross-entropy from the student's to the teacher's answer.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = Everything()
    optimizer: OptimizerSpec = Adam(lr=1e-3)
    decay: float = 0.999
    restore: float = 0.01
    confidence: float = 0.92
    n_views: int = 8
    views: Views = Views()
    restyling: Any = Restyling()
    symmetric: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= share <= 1 for share in (self.decay, self.restore, self.confidence)) or self.n_views < 1:
            raise ValueError(
                "decay, restore and confidence are in [0, 1] and n_views is 1 or more, found "
                f"{self.decay}, {self.restore}, {self.confidence} and {self.n_views}"
            )

    @property
    def is_continual(self) -> bool:
        """Yes: the teacher follows a stream."""
        return True

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow whose student and teacher are the source."""
        shadow = TeacherShadow(source, head, self.select, self.statistics, self.blend)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy between the teacher's and the student's answer, in nats; the mean over voxels and sigmoid channels."""
        assert isinstance(shadow, TeacherShadow)
        with shadow.as_student():
            with torch.no_grad():
                target = class_log_probabilities(self._teacher_logits(shadow, windows), shadow.head)
            student = class_log_probabilities(shadow(windows), shadow.head)
        forward = -(target.exp() * student).sum(2).mean()
        return forward if not self.symmetric else 0.5 * (forward - (student.exp() * target).sum(2).mean())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Take ``steps`` steps of the student, which the teacher follows."""
        assert isinstance(shadow, TeacherShadow)
        with shadow.as_student():
            return super().adapt(shadow, windows, loss)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step of the student, then of the teacher, then back to the source by chance."""
        assert isinstance(shadow, TeacherShadow)
        done = super().step(shadow, windows, loss)
        draw = torch.Generator().manual_seed(shadow.draw())
        with torch.no_grad():
            for teacher, student, start in zip(shadow.teacher, shadow.moving, shadow.start, strict=True):
                teacher.mul_(self.decay).add_(student, alpha=1 - self.decay)
                returns = (torch.rand(student.shape, generator=draw) < self.restore).to(student.device)
                student.copy_(torch.where(returns, start, student))
        return done

    def _teacher_logits(self, shadow: TeacherShadow, windows: Tensor) -> Tensor:
        """The teacher's logits, those of windows of which the source is unsure averaged over views."""
        with shadow.holding(shadow.start):
            unsure = source_confidence(shadow(windows), shadow.head) < self.confidence
        with shadow.holding(shadow.teacher):
            logits = shadow(windows)
            if bool(unsure.any()):
                logits[unsure] = self._mean_over_views(shadow, windows[unsure]).to(logits)
        return logits

    def _mean_over_views(self, shadow: TeacherShadow, windows: Tensor) -> Tensor:
        """The mean of logits over restyled views, each put back in place."""
        refuse_views_of_window_inputs(*shadow.extra)
        poses = self.views.of(windows.shape[2:])
        total = torch.zeros(())
        for number in range(self.n_views):
            pose = poses[number % len(poses)]
            view = self.restyling(pose.apply(windows), [shadow.draw() for _ in windows])
            total = pose.undo(shadow(view)) + total.to(windows.device)
        return total / self.n_views


def source_confidence(logits: Tensor, head: Head) -> Tensor:
    """For each window ``(N,)`` the mean probability of the likeliest class, over voxels of foreground or that are not sure.

    1 for a window without such voxels.
    """
    likeliest, label = class_log_probabilities(logits, head).max(2)
    p = likeliest.exp()
    counts = (label > 0) | (p < SURE)
    total = (p * counts).flatten(1).sum(1)
    n = counts.flatten(1).sum(1)
    return torch.where(n > 0, total / n.clamp_min(1), torch.ones_like(total))
