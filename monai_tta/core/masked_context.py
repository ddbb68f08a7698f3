"""Masked context: tell what lies behind blanked patches of a window from what lies around them (MaCo; arXiv 2408.12814)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import Head, cross_entropy, probabilities
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import Task

__all__ = ["MaskedContextTask"]

_MEAN_OVER_PATCHES = {2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True, kw_only=True)
class MaskedContextTask(Task):
    """Predict for a window with blanked patches what is predicted for the whole window, behind the blanks and beside them.

    The masked context modelling of MaCo (arXiv 2408.12814). The answer to the whole window is the target and takes no gradient.
    It costs one forward pass of the windows, and one forward and backward pass. It keeps nothing, and needs nothing from the
    source.

    This is a reconstruction from the abstract and a review: the text and the code could not be read. Published are a fixed share
    of blanked patches, a higher chance for patches that hold scribbles, and the agreement of the two answers. Ours are the size
    of a patch, how much higher the chance is, the loss (cross-entropy), and what blanks are filled with. An image to adapt to
    has no scribbles, so the network's own answer takes their place: patches that it is active in are blanked more often.

    Blanks change the statistics of a window. A layer that normalises each window by its own statistics takes them of the blanked
    window, blanks included. Choose a method with statistics="volume" or "source" to use those of whole windows. Where a network
    normalises without running statistics (InstanceNorm, GroupNorm), fill="noise" disturbs them least.

    Args:
        share: the share of patches that are blanked, above 0 and below 1. At least one patch is blanked, and at least one stays.
        patch: the sides of a patch in voxels: one number, or one for each axis. None takes an eighth of the window along each
            axis, but at least 4 voxels. At the far ends of a window that they do not divide, patches are smaller.
        attention: where the network is active: its "foreground" probability, its "entropy", or "none" to choose patches evenly.
        preference: how many times as likely to be drawn next the most active patch of a window is as one without any activity, 1
            or more. In between the chance rises evenly with the patch's mean activity.
        fill: what blanks hold: the window's "mean" of each channel; "noise" with the mean and standard deviation of the
            channel; or "zero", as in the paper. Zero is not neutral in a CT, where it is water or the end of an HU window,
            and not in z-scores of a head, where it is tissue.

    Raises:
        ValueError: for choices out of range.
    """

    share: float = 0.5
    patch: int | tuple[int, ...] | None = None
    attention: Literal["foreground", "entropy", "none"] = "foreground"
    preference: float = 4.0
    fill: Literal["mean", "noise", "zero"] = "mean"

    def __post_init__(self) -> None:
        sides = () if self.patch is None else (self.patch,) if isinstance(self.patch, int) else self.patch
        if not 0 < self.share < 1 or not 1 <= self.preference < float("inf") or any(side < 1 for side in sides):
            raise ValueError(
                "share is between 0 and 1, preference 1 or more and patch 1 voxel or more, found "
                f"{self.share}, {self.preference} and {self.patch}"
            )
        if self.attention not in ("foreground", "entropy", "none") or self.fill not in ("mean", "noise", "zero"):
            raise ValueError(
                "attention is 'foreground', 'entropy' or 'none', and fill 'mean', 'noise' or 'zero', found "
                f"{self.attention!r} and {self.fill!r}"
            )

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy of the blanked windows' answers to the whole windows' probabilities, in nats.

        Args:
            shadow: the network that adapts.
            windows: ``(N, C, *spatial)``.

        Raises:
            CannotAdapt: for windows of a single patch, or with another number of axes than ``patch``.
        """
        seeds = [shadow.draw() for _ in windows]
        with torch.no_grad():
            target = probabilities(at_least_float32(shadow(windows)), shadow.head)
            blanked = self.blank(windows, self.choose(target, shadow.head, seeds), seeds)
        return cross_entropy(shadow(blanked), target, shadow.head)

    def choose(self, target: Tensor, head: Head, seeds: Sequence[int]) -> Tensor:
        """Which voxels to blank, booleans ``(N, 1, *spatial)``, for probabilities ``(N, K, *spatial)``; each window by its seed.

        Patches are drawn one after the other without replacement, by their chance among those that are left (the exponential
        keys of Efraimidis and Spirakis 2006).

        Args:
            target: the answer to the whole windows, in [0, 1].
            head: what the channels stand for, "softmax" or "sigmoid".
            seeds: one for each window.

        Raises:
            CannotAdapt: as `__call__`.
        """
        shape = target.shape[2:]
        sides = self.sides(shape)
        activity = _MEAN_OVER_PATCHES[len(shape)](self._activity(target, head), sides, sides, ceil_mode=True)
        n_patches = activity[0].numel()
        if n_patches < 2:
            raise CannotAdapt(f"a window of {tuple(shape)} voxels is a single patch of {tuple(sides)}; choose a smaller patch")
        n_blanked = min(max(round(self.share * n_patches), 1), n_patches - 1)
        chosen = torch.zeros(activity.shape, dtype=torch.bool)
        for window, active, seed in zip(chosen, activity.double().cpu(), seeds, strict=True):
            chance = 1 + (self.preference - 1) * active / active.max().clamp_min(1e-12)
            draws = torch.rand(active.shape, dtype=torch.float64, generator=_generator(seed))
            window.view(-1)[(draws.log() / chance).flatten().topk(n_blanked).indices] = True
        for axis, (side, length) in enumerate(zip(sides, shape, strict=True), 2):
            chosen = chosen.repeat_interleave(side, axis).narrow(axis, 0, length)
        return chosen.to(target.device)

    def blank(self, windows: Tensor, chosen: Tensor, seeds: Sequence[int]) -> Tensor:
        """Windows ``(N, C, *spatial)`` with the chosen voxels ``(N, 1, *spatial)`` filled.

        Args:
            windows: ``(N, C, *spatial)``.
            chosen: which voxels, booleans.
            seeds: one for each window.
        """
        if self.fill == "zero":
            return windows.masked_fill(chosen, 0)
        axes = list(range(2, windows.ndim))
        exact = at_least_float32(windows)
        filled = exact.mean(axes, keepdim=True)
        if self.fill == "noise":
            shape = windows.shape[1:]
            # A shadow's seeds are below 2**32, so these are no other window's.
            noise = torch.stack([torch.randn(shape, generator=_generator(seed + 2**32)) for seed in seeds])
            filled = filled + exact.std(axes, keepdim=True) * noise.to(exact)
        return torch.where(chosen, filled.to(windows.dtype), windows)

    def sides(self, shape: Sequence[int]) -> list[int]:
        """The sides of a patch in windows of this spatial shape, in voxels.

        Args:
            shape: voxels of a window along each axis.

        Raises:
            CannotAdapt: when ``patch`` has another number of axes.
        """
        if self.patch is None:
            return [min(length, max(4, -(-length // 8))) for length in shape]
        sides = [self.patch] * len(shape) if isinstance(self.patch, int) else list(self.patch)
        if len(sides) != len(shape):
            raise CannotAdapt(f"the patch has {len(sides)} sides, and windows have {len(shape)} axes")
        return [min(side, length) for side, length in zip(sides, shape, strict=True)]

    def _activity(self, target: Tensor, head: Head) -> Tensor:
        """How active the network is in each voxel ``(N, 1, *spatial)``, 0 or more, from probabilities ``(N, K, *spatial)``."""
        if self.attention == "none":
            return torch.zeros_like(target[:, :1])
        if self.attention == "entropy":
            entropy = torch.special.entr(target)
            entropy = entropy if head == "softmax" else entropy + torch.special.entr(1 - target)
            return entropy.sum(1, keepdim=True)
        return 1 - target[:, :1] if head == "softmax" else target.amax(1, keepdim=True)


def _generator(seed: int) -> torch.Generator:
    """A generator of its own. On the CPU, so that every device gets the same draws."""
    return torch.Generator().manual_seed(seed)
