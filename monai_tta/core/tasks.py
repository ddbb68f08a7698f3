"""Self-supervised tasks: losses that need no label. Each is a frozen value that a method can hold."""

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
from monai_tta.core.auxiliary_heads import (
    denoising_loss,
    heads_of,
    reconstruction_loss,
    rotation_loss,
    super_resolution_loss,
)
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.objectives import cross_entropy, full_entropy, half_entropy, probabilities
from monai_tta.core.restyling import Restyling
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.core.window_inputs import refuse_views_of_window_inputs

__all__ = [
    "Task",
    "EntropyTask",
    "ConsistencyTask",
    "StatisticsTask",
    "HeadTask",
    "ReconstructionTask",
    "DenoisingTask",
    "SuperResolutionTask",
    "RotationTask",
]


class Task(ABC):
    """A loss of windows without labels."""

    @abstractmethod
    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """A scalar loss for windows ``(N, C, *spatial)``.

        Args:
            shadow: the network that adapts.
            windows: ``(N, C, *spatial)``.
        """


@dataclass(frozen=True, kw_only=True)
class EntropyTask(Task):
    """The entropy of what the network predicts. Its gradient makes predictions more certain.

    Args:
        half: False for the entropy, as in TENT; True for the form of GraTa's code (`monai_tta.core.objectives.half_entropy`).
    """

    half: bool = False

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean entropy per voxel, in nats."""
        return (half_entropy if self.half else full_entropy)(shadow(windows), shadow.head)


@dataclass(frozen=True, kw_only=True)
class ConsistencyTask(Task):
    """Predict for a restyled window what is predicted, on average over views, for the window itself (GraTa, eq. 4).

    Args:
        views: mirrored and turned copies of the window, see `Views`.
        restyling: a callable ``(windows, seeds) -> windows`` that changes how windows look, see `Restyling`.
    """

    views: Views = Views()
    restyling: Any = Restyling()

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy to the mean of the views' probabilities, in nats. That mean takes no gradient."""
        target = view_average(shadow, windows, self.views)
        restyled = self.restyling(windows, [shadow.draw() for _ in windows])
        return cross_entropy(shadow(restyled), target, shadow.head)


@dataclass(frozen=True, kw_only=True)
class StatisticsTask(Task):
    """Make each layer's features have the statistics by which that layer normalises them (VPTTA, eq. 5).

    Those are the source's, or a mixture with the present ones, and count as constants. This moves something only where they
    are not the present ones alone.
    """

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The mean over layers, windows and channels of the distances of means and of standard deviations, in feature units.

        Raises:
            CannotAdapt: for a network without running statistics.
        """
        found: list[tuple[AdaptiveNorm, Tensor, int]] = []
        # Distances are computed after the pass: inside it they would be part of what a recomputed block does.
        with shadow.before_norms(lambda layer, inputs: found.append((layer, inputs[0], layer.use))):
            shadow(windows)
        if not found:
            raise CannotAdapt(f"{shadow.kind} keeps no running statistics of its training, to which features could be brought")
        return torch.stack([_distance_of_statistics(*one) for one in found]).mean()


def _distance_of_statistics(layer: AdaptiveNorm, features: Tensor, use: int) -> Tensor:
    """How far means and deviations of features ``(N, C, *spatial)`` are from those by which this use of the layer normalises."""
    mean, var = layer.statistics_of(features, use)
    flat = (features if features.dtype == torch.float64 else features.float()).flatten(2)
    return (mean - flat.mean(2)).abs().mean() + (var.sqrt() - flat.std(2)).abs().mean()


class HeadTask(Task):
    """A task that needs `monai_tta.core.auxiliary_heads.AuxiliaryHeads`, trained with the source network."""

    @abstractmethod
    def compute_loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """A scalar loss for windows ``(N, C, *spatial)``; called for networks with heads only."""

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The loss.

        Raises:
            CannotAdapt: when the network has no heads, or its heads do not fit these windows.
        """
        try:
            heads_of(shadow.module)
            return self.compute_loss(shadow, windows)
        except ValueError as error:
            raise CannotAdapt(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class ReconstructionTask(HeadTask):
    """Reconstruct the window from its bottleneck features (``recon`` in GraTa's code)."""

    def compute_loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean squared error, in squared units of the image."""
        return reconstruction_loss(shadow.module, windows, *shadow.extra[0], **shadow.extra[1])


@dataclass(frozen=True, kw_only=True)
class DenoisingTask(HeadTask):
    """Reconstruct the window from a noisy one (``denoise`` in GraTa's code).

    Args:
        deviation: standard deviation of the noise, in units of the image.
    """

    deviation: float = 0.1

    def compute_loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean squared error, in squared units of the image."""
        args, kwargs = shadow.extra
        seeds = [shadow.draw() for _ in windows]
        return denoising_loss(shadow.module, windows, seeds, *args, deviation=self.deviation, **kwargs)


@dataclass(frozen=True, kw_only=True)
class SuperResolutionTask(HeadTask):
    """Reconstruct the window from one of half its size (``supres`` in GraTa's code)."""

    def compute_loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean squared error, in squared units of the image."""
        return super_resolution_loss(shadow.module, windows, *shadow.extra[0], **shadow.extra[1])


@dataclass(frozen=True, kw_only=True)
class RotationTask(HeadTask):
    """Predict how a window was mirrored or turned (``rotate`` in GraTa's code).

    Each window is put into one pose, drawn from the shadow's seed. Unless the heads were made for others, there are the paper's
    six poses in 2D, and the eight combinations of mirrors in 3D.
    """

    def compute_loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy, in nats."""
        seeds = [shadow.draw() for _ in windows]
        return rotation_loss(shadow.module, windows, seeds, *shadow.extra[0], **shadow.extra[1])


@torch.no_grad()
def view_average(shadow: Shadow, windows: Tensor, views: Views) -> Tensor:
    """Probabilities ``(N, K, *spatial)`` of windows ``(N, C, *spatial)``, the mean over views; float32 or wider."""
    return torch.stack(answers_of_views(shadow, windows, views)).mean(0)


@torch.no_grad()
def answers_of_views(shadow: Shadow, windows: Tensor, views: Views) -> list[Tensor]:
    """Probabilities ``(N, K, *spatial)`` of windows in each view, brought back to the windows' own pose; float32 or wider."""
    poses = views.of(windows.shape[2:])
    each = _logits_of_views(shadow, [pose.apply(windows) for pose in poses])
    return [pose.undo(probabilities(at_least_float32(logits), shadow.head)) for pose, logits in zip(poses, each, strict=True)]


def single_answers_of(shadow: Shadow, windows: Tensor, views: Views) -> Iterator[tuple[float, Tensor]]:
    """Weights, which sum to 1, and probabilities ``(N, K, *spatial)``: of each network that a shadow mixes, in each view."""
    weights: dict[Shadow, float] = {}
    for own, weight in shadow.answering:  # one network may be mixed in several ways
        weights[own] = weights.get(own, 0.0) + weight
    for own, weight in weights.items():
        own.extra = shadow.extra
        of_views = answers_of_views(own, windows, views)
        yield from ((weight / len(of_views), p) for p in of_views)


def _logits_of_views(shadow: Shadow, views: list[Tensor]) -> Iterator[Tensor]:
    """Logits of each view of some windows, several views at once where memory allows.

    Small windows do not keep a processor busy. Batching changes no result, because normalisation statistics are fixed or each
    window's own. Where the network takes more than windows, this belongs to windows in the order they have: one view at a time.
    """
    if len(views) > 1:
        refuse_views_of_window_inputs(*shadow.extra)
    n_windows = len(views[0])
    at_once = max(1, windows_at_once(views[0], shadow.voxels_at_once) // n_windows)
    if at_once > 1 and not any(shadow.extra) and len({view.shape for view in views}) == 1:
        try:
            batches = [shadow(torch.cat(views[k : k + at_once])) for k in range(0, len(views), at_once)]
            yield from torch.cat(batches).split(n_windows)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    yield from map(shadow, views)
