"""What an unlabelled case shows a guard: each part is computed when first asked for, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monai_tta.compute.precision import without_weight_cache
from monai_tta.core.label_free_metrics import agreement
from monai_tta.core.normalization import TooFewVoxels
from monai_tta.core.objectives import Head, labels, probabilities
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views
from monai_tta.core.views import Views

MAX_GUARD_WINDOWS = 4  # each costs forward passes


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """One case, as guards see it. A guard must not write to anything in it.

    Args:
        adapted: the shadow's logits of the whole image, ``(1, K, *spatial)``.
        head: what the logits stand for, "softmax" or "sigmoid".
        shadow: the shadow that made them.
        spacing: the size of a voxel along each axis by the image's affine (mm in NIfTI and DICOM); None for an image without one.
        compute_unadapted: computes `unadapted`.
        compute_source: computes `source`.
        compute_windows: computes `windows`, before their number is limited.
        compute_fresh: computes `fresh` from windows.
    """

    adapted: Tensor
    head: Head
    shadow: Shadow
    spacing: tuple[float, ...] | None = None
    compute_unadapted: Callable[[], Tensor]
    compute_source: Callable[[], Shadow]
    compute_windows: Callable[[], Sequence[Tensor]]
    compute_fresh: Callable[[Sequence[Tensor]], Shadow]

    @cached_property
    def unadapted(self) -> Tensor:
        """The source's logits of the whole image, ``(1, K, *spatial)``. Costs an unadapted answer of the image."""
        return self.compute_unadapted()

    @cached_property
    def windows(self) -> tuple[Tensor, ...]:
        """Up to `MAX_GUARD_WINDOWS` windows, each ``(1, C, *spatial)``.

        They are adaptation windows; where these are fewer, windows with much contrast. Where none were kept, they are selected
        now; that costs up to 16 forward passes. Empty where no window can be adapted on, or where the network is given something
        that belongs to single windows.
        """
        return tuple(spread_evenly(self.compute_windows()))

    @cached_property
    def source(self) -> Shadow:
        """A copy of the source network with the source's statistics, in which nothing moves."""
        return self.compute_source()

    @cached_property
    def fresh(self) -> Shadow:
        """A fresh shadow: the shadow before it learnt anything. Costs a forward pass of each window where statistics are
        pooled."""
        return self.compute_fresh(self.windows)

    @property
    def adapted_probabilities(self) -> Tensor:
        """The adapted answer in [0, 1], ``(1, K, *spatial)``, in float32 at least. Computed at each use, because a volume's
        probabilities take much memory."""
        return _probabilities(self.adapted, self.head)

    @property
    def unadapted_probabilities(self) -> Tensor:
        """The unadapted answer in [0, 1], likewise. Costs what `unadapted` costs."""
        return _probabilities(self.unadapted, self.head)

    @cached_property
    def adapted_masks(self) -> Tensor:
        """The adapted answer as booleans ``(structures, *spatial)``, without background."""
        return _masks(self.adapted, self.head)

    @cached_property
    def unadapted_masks(self) -> Tensor:
        """The unadapted answer as booleans ``(structures, *spatial)``, without background. Costs what `unadapted` costs."""
        return _masks(self.unadapted, self.head)

    @cached_property
    def distances(self) -> tuple[float, ...]:
        """How far the normalisation statistics of the windows are from the source's, layer by layer, at least 0.

        In standard deviations of the source, see `AdaptiveNorm.distance`. Empty for a network without running statistics. Costs
        one forward pass of each window.
        """
        same_size = [w for w in self.windows if w.shape == self.windows[0].shape]
        if not same_size:
            return ()
        with extra_forward_passes(same_size[0]):
            try:
                return tuple(self.source.distances(torch.cat(same_size)))
            except TooFewVoxels:
                return ()

    @property
    def relative_weight_distance(self) -> float:
        """How far the moving tensors moved, as a share of their Euclidean length in the source; at least 0.

        The length counts as at least 0.1 per number (root mean square): biases are often close to zero, and a small step would
        be a large share of almost nothing.
        """
        if not self.shadow.start:
            return 0.0
        length = float(sum((t.float() ** 2).sum() for t in self.shadow.start)) ** 0.5
        least = 0.1 * sum(t.numel() for t in self.shadow.start) ** 0.5
        return self.shadow.weight_distance / max(length, least)

    def adapted_view_agreement(self, views: Views) -> float:
        """Mean soft Dice between the shadow's answer of each window and its answers of the window's views, in [0, 1].

        1 where there is nothing to compare. Costs a forward pass of each window and of each of its views.

        Args:
            views: which mirrors and turns.
        """
        return _view_agreement(self.shadow, self.windows, views)

    def unadapted_view_agreement(self, views: Views) -> float:
        """The same of the source's answers.

        Args:
            views: which mirrors and turns.
        """
        return _view_agreement(self.source, self.windows, views)

    def window_probabilities(self, shadow: Shadow) -> tuple[Tensor, ...]:
        """Probabilities ``(1, K, *spatial)`` of each window by a shadow. Costs a forward pass of each.

        Args:
            shadow: `shadow`, `source` or `fresh`.
        """
        return tuple(_predict(shadow, window) for window in self.windows)


def spread_evenly(windows: Sequence[Tensor]) -> list[Tensor]:
    """At most `MAX_GUARD_WINDOWS` of these windows, at equal distances in their order."""
    return list(windows[:: -(-len(windows) // MAX_GUARD_WINDOWS)]) if windows else []


def _probabilities(logits: Tensor, head: Head) -> Tensor:
    """Probabilities in float32 at least, in a tensor without meta data or gradient."""
    own = logits.detach().as_subclass(Tensor)
    return probabilities(own if own.dtype == torch.float64 else own.float(), head)


def _masks(logits: Tensor, head: Head) -> Tensor:
    """Structures ``(K', *spatial)`` of the first image."""
    own = labels(logits[:1].detach().as_subclass(Tensor), head)
    if head == "sigmoid":
        return own[0]
    return torch.cat([own[0] == k for k in range(1, logits.shape[1])] or [own[0] > 0])


@contextmanager
def extra_forward_passes(windows: Tensor) -> Iterator[None]:
    """A block for forward passes besides the answer: without gradient, and with the weights as they are now."""
    with torch.inference_mode(False), torch.no_grad(), without_weight_cache(windows.device):
        yield


def _predict(shadow: Shadow, window: Tensor) -> Tensor:
    """Probabilities of a window in float32 at least."""
    with extra_forward_passes(window):
        return _probabilities(shadow(window), shadow.head)


def _view_agreement(shadow: Shadow, windows: Sequence[Tensor], views: Views) -> float:
    """Mean soft Dice between the answer of each window and those of its views; 1 where there is nothing to compare."""
    found: list[float] = []
    for window in windows:
        with extra_forward_passes(window):
            unchanged, *viewed = answers_of_views(shadow, window, views)
        found += [agreement(unchanged, other, shadow.head) for other in viewed]
    return sum(found) / len(found) if found else 1.0
