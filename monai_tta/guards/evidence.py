"""What an unlabelled case offers to whoever judges its answer: what costs is computed when first asked for, once."""

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

MAX_GUARD_WINDOWS = 4  # as many windows at most are looked at for a verdict


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """One case, as a guard sees it. Nothing in it may be written to.

    Args:
        adapted: logits of the whole image by the shadow, ``(1, K, *spatial)``.
        head: what the logits stand for.
        shadow: the stand-in that made them.
        spacing: a voxel's size along each axis by the image's affine (mm in NIfTI and DICOM); None where it has none.
        ask_plain: makes `unadapted`.
        ask_source: makes `source`.
        ask_windows: makes `windows`.
        ask_newborn: makes `fresh`.
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
        """Logits of the whole image by the source. Costs a plain run of the image."""
        return self.compute_unadapted()

    @cached_property
    def windows(self) -> tuple[Tensor, ...]:
        """Up to `MAX_GUARD_WINDOWS` of the windows that taught or, where those are fewer, of the fullest, each ``(1, C,
        *spatial)``; chosen now where none were kept. Empty where no window can teach, or each needs something of its own from
        the inferer."""
        return tuple(spread_evenly(self.compute_windows()))

    @cached_property
    def source(self) -> Shadow:
        """A stand-in for the source with its own statistics, in which nothing moves."""
        return self.compute_source()

    @cached_property
    def fresh(self) -> Shadow:
        """What the shadow was before it learnt anything. Costs a forward pass of each window where statistics are pooled."""
        return self.compute_fresh(self.windows)

    @property
    def adapted_probabilities(self) -> Tensor:
        """The adapted answer in [0, 1], in float32 at least; made anew at each use, because a volume's fills much memory."""
        return _probable(self.adapted, self.head)

    @property
    def unadapted_probabilities(self) -> Tensor:
        """The same of the plain answer."""
        return _probable(self.unadapted, self.head)

    @cached_property
    def adapted_masks(self) -> Tensor:
        """The adapted answer as booleans ``(structures, *spatial)``."""
        return _masks(self.adapted, self.head)

    @cached_property
    def unadapted_masks(self) -> Tensor:
        """The plain answer as booleans ``(structures, *spatial)``."""
        return _masks(self.unadapted, self.head)

    @cached_property
    def distances(self) -> tuple[float, ...]:
        """How far the windows' normalisation statistics are from the source's, layer by layer (see `AdaptiveNorm.distance`), in
        the source's standard deviations; empty for a network whose layers remember none. Costs one forward pass of each
        window."""
        alike = [w for w in self.windows if w.shape == self.windows[0].shape]
        if not alike:
            return ()
        with _quietly(alike[0]):
            try:
                return tuple(self.source.distances(torch.cat(alike)))
            except TooFewVoxels:
                return ()

    @property
    def weight_distance(self) -> float:
        """How far the moving tensors went, as a share of the source's own Euclidean length; numbers that are smaller than a tenth
        on the whole, biases often, count as a tenth, because a small step is a large share of next to nothing."""
        length = float(sum((t.float() ** 2).sum() for t in self.shadow.start)) ** 0.5
        least = 0.1 * sum(t.numel() for t in self.shadow.start) ** 0.5
        return self.shadow.weight_distance / max(length, least) if self.shadow.start else 0.0

    def adapted_views(self, views: Views) -> float:
        """Soft Dice in [0, 1] of the shadow's answers of the windows with those of each of their views, on average. Costs a
        forward pass of each window and view."""
        return _between_views(self.shadow, self.windows, views)

    def unadapted_views(self, views: Views) -> float:
        """The same of the source's answers."""
        return _between_views(self.source, self.windows, views)

    def answers(self, whose: Shadow) -> tuple[Tensor, ...]:
        """Probabilities of each window by a stand-in. Costs a forward pass of each."""
        return tuple(_asked(whose, window) for window in self.windows)


def spread_evenly(windows: Sequence[Tensor]) -> list[Tensor]:
    """`MAX_GUARD_WINDOWS` windows of these at most, spread evenly."""
    return list(windows[:: -(-len(windows) // MAX_GUARD_WINDOWS)]) if windows else []


def _probable(logits: Tensor, head: Head) -> Tensor:
    """Probabilities in float32 at least, of a tensor without meta data or gradient."""
    own = logits.detach().as_subclass(Tensor)
    return probabilities(own if own.dtype == torch.float64 else own.float(), head)


def _masks(logits: Tensor, head: Head) -> Tensor:
    """Structures ``(K', *spatial)`` of the first image."""
    own = labels(logits[:1].detach().as_subclass(Tensor), head)
    if head == "sigmoid":
        return own[0]
    return torch.cat([own[0] == k for k in range(1, logits.shape[1])] or [own[0] > 0])


@contextmanager
def _quietly(windows: Tensor) -> Iterator[None]:
    """Where forward passes beside the answer are made: no gradient, and weights that moved are seen."""
    with torch.inference_mode(False), torch.no_grad(), without_weight_cache(windows.device):
        yield


def _asked(shadow: Shadow, window: Tensor) -> Tensor:
    """Probabilities of a window in float32 at least."""
    with _quietly(window):
        return _probable(shadow(window), shadow.head)


def _between_views(shadow: Shadow, windows: Sequence[Tensor], views: Views) -> float:
    """Mean soft Dice of the answer of each window with those of its views; 1 where there is nothing to compare."""
    found = []
    for window in windows:
        with _quietly(window):
            straight, *posed = answers_of_views(shadow, window, views)
        found += [agreement(straight, other, shadow.head) for other in posed]
    return sum(found) / len(found) if found else 1.0
