"""DUA: dynamic unsupervised adaptation (Mirza, Micorek, Possegger, Bischof; CVPR 2022; arXiv 2112.00463)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.norm_uses import mixed, running_statistics
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.core.window_inputs import refuse_views_of_window_inputs

LEAST_MOMENTUM = 0.005  # below this the paper's momentum does not fall


class RunningShadow(Shadow):
    """A shadow whose statistics follow the images of a stream. It normalises by them, and keeps the source's beside them.

    Attributes:
        momentum: the falling part of the share with which the next image's statistics enter.
    """

    def __init__(self, source: nn.Module, head: Head, momentum: float) -> None:
        super().__init__(source, head, None, "volume", 1.0)
        self.momentum = momentum
        self.norms = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats]
        if not self.norms:
            raise CannotAdapt(f"{self.kind} keeps no running statistics of its training, which could follow the images")

    def pool_statistics(self, windows: Tensor, unbiased: bool = False) -> None:
        """Nothing: what is pooled is what the stream has learnt, and `follow` alone changes it."""

    def follow(self, windows: Tensor, share: float) -> None:
        """Mix the statistics of windows ``(N, C, *spatial)`` into the running ones, with this share."""
        before = [layer.pooled for layer in self.norms]
        try:
            super().pool_statistics(windows, unbiased=True)
        except BaseException:
            for layer, uses in zip(self.norms, before, strict=True):
                layer.pooled = uses
            raise
        for layer, uses in zip(self.norms, before, strict=True):
            running = uses or (running_statistics(layer),) * len(layer.pooled)
            layer.pooled = tuple(
                None if new is None or old is None else mixed(old, new, share)
                for old, new in zip(running, layer.pooled, strict=True)
            )

    def state(self) -> dict[str, Any]:
        """What the stream has learnt: its momentum, and means and variances by layer and use."""
        return super().state() | {"momentum": self.momentum, "statistics": [list(layer.pooled) for layer in self.norms]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.momentum = float(state["momentum"])
        for layer, uses in zip(self.norms, state["statistics"], strict=True):
            layer.pooled = tuple(uses)


@dataclass(frozen=True, kw_only=True)
class DUA(AdaptationMethod):
    """Let the running statistics follow a stream of images, each with a smaller share; nothing is learnt by gradients.

    Mirza, Micorek, Possegger, Bischof, CVPR 2022, arXiv 2112.00463. For each image the share falls to ``decay`` of what it was,
    and running means and unbiased variances move towards those of copies of the image by that share and 0.005. Layers normalise
    by the copies' statistics meanwhile, as in training. The answer uses the running ones.

    It is meant for streams (reset="never"). It costs a forward pass of each view of the adaptation windows, all at once, and no
    backward pass. It keeps running means and variances, no image and nothing of a single one. It needs running statistics in the
    network, so BatchNorm.

    Ours: the copies are the adaptation windows in each of their views, without random draws, where the paper takes 64 crops of
    one photograph, mirrored and turned at random. The released script reports the best result over a stream, by its labels; here
    each image's answer is the one that it got in its turn. A layer that is used at several places has statistics for each.

    Args:
        views: the poses of the adaptation windows that are their copies.
        momentum: the share of the images' statistics before the first image, in [0, 1].
        decay: what becomes of it with each image, in [0, 1].

    Raises:
        ValueError: for choices out of range.
    """

    views: Views = Views()
    momentum: float = 0.1
    decay: float = 0.94

    def __post_init__(self) -> None:
        if not 0 <= self.momentum <= 1 - LEAST_MOMENTUM or not 0 <= self.decay <= 1:
            raise ValueError(f"momentum is in [0, 0.995] and decay in [0, 1], found {self.momentum} and {self.decay}")

    @property
    def default_budget(self) -> int:
        """Four, as wherever statistics are taken over windows."""
        return 4

    @property
    def is_continual(self) -> bool:
        """Yes: a single image has a share of a tenth."""
        return True

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """The first image's share, as the blend."""
        return {"blend": self.decay * self.momentum + LEAST_MOMENTUM}

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow with the source's statistics.

        Raises:
            CannotAdapt: for a network without running statistics.
        """
        return RunningShadow(source, head, self.momentum)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero: nothing is learnt by gradients."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Move the running statistics towards those of the windows' views.

        Raises:
            CannotAdapt: where the network is given something of each window's own, which a view would need mirrored.
        """
        assert isinstance(shadow, RunningShadow)
        views = self.views.of(windows.shape[2:])
        if len(views) > 1:
            refuse_views_of_window_inputs(*shadow.extra)
        momentum = shadow.momentum * self.decay
        share = momentum + LEAST_MOMENTUM
        shadow.follow(torch.cat([view.apply(windows) for view in views]), share)
        shadow.momentum = momentum
        return (Step(notes={"share of this image": share}),)
