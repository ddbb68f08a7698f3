"""The mean of answers with several blends of statistics: the control of InTEnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.no_learning import NoLearning
from monai_tta.core.norm_uses import mixed, running_statistics
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.objectives import Head, probabilities
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.core.window_inputs import has_per_window_inputs
from monai_tta.quality.features import as_logits, mixture

BLENDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class BlendShadow(Shadow):
    """A shadow that answers with the weighted mean of its probabilities under several blends of statistics.

    The present statistics are those of one pass in which every layer normalises by present statistics. Each blend mixes them with
    the source's, layer by layer.

    Attributes:
        blends: shares of the present statistics.
        weights: of each blend's answer; they sum to 1.
        by_window: whether each window has present statistics of its own. Otherwise they are those that were pooled last.
    """

    def __init__(self, source: nn.Module, head: Head, blends: Sequence[float], by_window: bool) -> None:
        super().__init__(source, head, None, "volume", 1.0)
        self.norms = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats]
        if not self.norms:
            raise CannotAdapt(
                f"{self.kind} keeps no running statistics of its training, with which present ones could be blended"
            )
        self.blends = tuple(blends)
        self.weights = [1 / len(self.blends)] * len(self.blends)
        self.by_window = by_window
        self._asks_once = False

    def outputs(self, windows: Tensor) -> Any:
        """The weighted mean, in the network's own container. Other outputs are those with the source's statistics."""
        if self._asks_once:
            return super().outputs(windows)
        logits = as_logits(mixture(self.answers(windows), self.weights), self.head)
        return self.reader.answer_of(logits, self.head, lambda: self._outputs_of_source(windows))

    def answers(self, windows: Tensor) -> list[Tensor]:
        """The probabilities ``(N, K, *spatial)`` under each blend.

        Raises:
            CannotAdapt: where each window has statistics of its own, and the network is given something of each window's own.
        """
        if not self.by_window:
            return self._answers(windows, [layer.pooled for layer in self.norms])
        if len(windows) > 1 and has_per_window_inputs(*self.extra):
            raise CannotAdapt("the network is given something of each window's own; use sw_batch_size=1 or statistics='volume'")
        parts = []
        for window in windows.split(1):
            self.pool_statistics(window)
            parts.append(self._answers(window, [layer.pooled for layer in self.norms]))
            for layer in self.norms:
                layer.pooled = ()
        return [torch.cat(some) for some in zip(*parts, strict=True)]

    def pool_statistics(self, windows: Tensor, unbiased: bool = True) -> None:
        """Pool present statistics over these windows, in one pass."""
        with self._asking_once():
            super().pool_statistics(windows, unbiased)

    def distances(self, windows: Tensor) -> list[float]:
        """As `Shadow.distances`, of one pass."""
        with self._asking_once():
            return super().distances(windows)

    def _answers(self, windows: Tensor, present: list[Any]) -> list[Tensor]:
        found = []
        try:
            for blend in self.blends:
                for layer, uses in zip(self.norms, present, strict=True):
                    layer.pooled = tuple(None if use is None else mixed(running_statistics(layer), use, blend) for use in uses)
                with self._asking_once():
                    found.append(probabilities(at_least_float32(self(windows)), self.head))
        finally:
            for layer, uses in zip(self.norms, present, strict=True):
                layer.pooled = uses
        return found

    def _outputs_of_source(self, windows: Tensor) -> Any:
        present = [layer.pooled for layer in self.norms]
        try:
            for layer in self.norms:
                layer.pooled = ()
            return super().outputs(windows)
        finally:
            for layer, uses in zip(self.norms, present, strict=True):
                layer.pooled = uses

    @contextmanager
    def _asking_once(self) -> Iterator[None]:
        before = self._asks_once
        self._asks_once = True
        try:
            yield
        finally:
            self._asks_once = before


@dataclass(frozen=True, kw_only=True)
class BlendAverage(NoLearning):
    """Answer with the mean of the probabilities under six blends of the source's statistics with the present image's.

    The control of `InTEnt` (Dong et al., CVPRW 2024, arXiv 2402.09604), whose weights lie between 0.10 and 0.26 and so are near
    1/6 each. It costs six forward passes where the source takes one, and one of the adaptation windows. It keeps nothing. It
    needs running statistics in the network, so BatchNorm.

    Ours: the present statistics of a volume are those of its adaptation windows.

    Args:
        statistics: whose present statistics: pooled over the "volume"'s adaptation windows, or each "window"'s own, which costs
            a seventh forward pass.
        blends: shares of the present statistics, in [0, 1].

    Raises:
        ValueError: for choices out of range.
    """

    statistics: str = "volume"
    blends: tuple[float, ...] = BLENDS

    def __post_init__(self) -> None:
        if self.statistics not in ("window", "volume"):
            raise ValueError(f"statistics must be 'window' or 'volume', found {self.statistics!r}")
        if not self.blends or not all(0 <= blend <= 1 for blend in self.blends):
            raise ValueError(f"blends are shares of the present statistics, in [0, 1], at least one; found {self.blends}")

    @property
    def pools_statistics(self) -> bool:
        """True for statistics="volume"."""
        return self.statistics == "volume"

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """The mean of its blends, and whether each window has statistics of its own."""
        return {"blend": sum(self.blends) / len(self.blends), "window statistics": float(self.statistics == "window")}

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow that averages its answers.

        Raises:
            CannotAdapt: for a network without running statistics.
        """
        return BlendShadow(source, head, self.blends, self.statistics == "window")

    def single_answers(self, shadow: Shadow, windows: Tensor, views: Views) -> Iterator[tuple[float, Tensor]]:
        """The answer under each blend in each view, by the blends' weights.

        Args:
            shadow: of this method.
            windows: ``(N, C, *spatial)``.
            views: which mirrors and turns.
        """
        assert isinstance(shadow, BlendShadow)
        poses = views.of(windows.shape[2:])
        for pose in poses:
            for weight, p in zip(shadow.weights, shadow.answers(pose.apply(windows)), strict=True):
                yield weight / len(poses), pose.undo(p)
