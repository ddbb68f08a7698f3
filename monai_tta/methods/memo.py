"""MEMO: marginal entropy minimisation with one test point (Zhang, Levine, Finn; NeurIPS 2022; arXiv 2110.09506)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.checkpointing import checkpointed
from monai_tta.core.method import Descent
from monai_tta.core.objectives import class_log_probabilities
from monai_tta.core.optimizers import SGD, OptimizerSpec
from monai_tta.core.restyling import Restyling
from monai_tta.core.selection import Everything, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.core.window_inputs import refuse_views_of_window_inputs


@dataclass(frozen=True, kw_only=True)
class MEMO(Descent):
    """Go down the entropy of the mean over restyled views of one image, with a seventeenth of present statistics.

    Zhang, Levine, Finn, NeurIPS 2022, arXiv 2110.09506. All parameters move, by one step, and each image starts at the source
    (reset="volume"). A seventeenth, 1/(16 + 1), is the paper's share of the image's own statistics. A step costs two forward
    passes and a backward pass for each view: of a view only the answer is kept, and the rest is computed again in its backward
    pass, so the memory is that of one view. It keeps nothing and needs nothing from the source.

    Ours: views are put back in place, and the mean and its entropy are taken voxel by voxel. A mean over all voxels of a mask, as
    a port to segmentation takes it, would pull towards one class everywhere. Views are mirrors and turns with our restyling,
    where the paper has 64 random crops with AugMix; the first is the image as it is. Each view has statistics of its own, where
    the authors' code pools over all views.

    Args:
        n_views: how many views, 1 or more. With one, this is entropy minimisation.
        views: the poses that they take in turn.
        restyling: a callable ``(windows, seeds) -> windows`` that changes how windows look, see `Restyling`.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = Everything()
    blend: float = 1 / 17
    optimizer: OptimizerSpec = SGD(lr=2.5e-4, momentum=0.0)
    n_views: int = 8
    views: Views = Views()
    restyling: Any = Restyling()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.n_views, int) or self.n_views < 1:
            raise ValueError(f"n_views is a whole number, 1 or more, found {self.n_views!r}")

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean over voxels of the entropy of the views' mean, in nats; summed over the channels of a sigmoid head."""
        poses = self.views.of(windows.shape[2:])[: self.n_views]
        if len(poses) > 1:
            refuse_views_of_window_inputs(*shadow.extra)
        answers = []
        for number in range(self.n_views):
            pose = poses[number % len(poses)]
            view = pose.apply(windows)
            if number:
                view = self.restyling(view, [shadow.draw() for _ in view])
            answers.append(class_log_probabilities(pose.undo(checkpointed(shadow, view)), shadow.head))
        log_mean = torch.stack(answers).logsumexp(0) - log(self.n_views)
        return -(log_mean.exp() * log_mean).sum((1, 2)).mean()
