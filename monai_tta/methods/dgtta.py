"""DG-TTA: consistency of warped windows (Weihsbach et al.; Sensors 2025; arXiv 2312.06275), cut down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from monai_tta.compute.checkpointing import checkpointed
from monai_tta.core.affine_warps import AffineWarps
from monai_tta.core.method import Descent
from monai_tta.core.objectives import class_log_probabilities
from monai_tta.core.optimizers import AdamW, OptimizerSpec
from monai_tta.core.shadow import Shadow
from monai_tta.core.window_inputs import refuse_views_of_window_inputs


@dataclass(frozen=True, kw_only=True)
class DGTTA(Descent):
    """Make the network answer a window alike under two small random affine warps; a cut-down DG-TTA.

    Weihsbach et al., "DG-TTA", Sensors 25 (5603), 2025, arXiv 2312.06275; package dg-tta. Both answers are warped back, and the
    loss is one minus their overlap, ``4 sum(a b) / sum((a + b)^2)`` for each foreground class. Both take the gradient.

    Each image starts at the source (reset="volume"). A step costs four forward passes and two backward passes of the adaptation
    windows: what is inside a pass is computed again in the backward pass, so memory is that of one answer. It keeps nothing
    and needs nothing from the source.

    Ours: a budget of our own. The paper makes three runs of 11 steps with 16 new random patches each and averages three answers:
    more than a thousand forward and backward passes. Here it is one run of ``steps`` steps over the same few windows, and
    scale and shift move, where all parameters do in the paper. It says that most is owed to the source's training with random
    convolutions or MIND descriptors, which a given network has not had. Overlap is measured where a window has never left
    its frame; the code takes voxels whose logits sum to more than zero, which drops others, too. On a GPU the gradient
    of a warp is a sum in no fixed order, so two runs agree within rounding alone.

    Args:
        deviation: of the noise on each entry of a warp's matrix, in half-sides of the window; 0 or more.

    Raises:
        ValueError: for a negative deviation.
    """

    optimizer: OptimizerSpec = AdamW(lr=1e-5)
    steps: int = 5
    deviation: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deviation < 0:
            raise ValueError(f"deviation is 0 or more, found {self.deviation}")

    @property
    def default_budget(self) -> int:
        """Four windows in the place of the paper's 16 patches."""
        return 4

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """One minus the overlap, the mean over windows and foreground classes, in [0, 1]."""
        refuse_views_of_window_inputs(*shadow.extra)
        seeds = [(shadow.draw(), shadow.draw()) for _ in windows]
        dims = windows.ndim - 2
        warps = [AffineWarps(dims, some, self.deviation, windows) for some in zip(*seeds, strict=True)]
        kept = torch.stack([one.kept(windows.shape[2:]) for one in warps]).all(0)[:, :, None]
        a, b = (checkpointed(partial(_answer, shadow, one), windows) * kept for one in warps)
        axes = tuple(range(3, a.ndim))
        # Where a class has no probability anywhere, both answers agree.
        overlap = (4 * (a * b).sum(axes) + 1e-12) / (((a + b) ** 2).sum(axes) + 1e-12)
        return 1 - overlap.mean()


def _answer(shadow: Shadow, warps: AffineWarps, windows: Tensor) -> Tensor:
    """Probabilities ``(N, Q, C - 1, *spatial)`` of foreground in warped windows, brought back."""
    logits = warps.undo(shadow(warps.apply(windows)))
    return class_log_probabilities(logits, shadow.head)[:, :, 1:].exp()
