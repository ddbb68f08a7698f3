"""Measures the signals of one answer: those of its probabilities, and those that need the network that gave it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.geometry import voxel_spacing
from monai_tta.core.label_free_metrics import hard_masks, mean_entropy, voxels_last
from monai_tta.core.network_copy import in_eval_mode
from monai_tta.core.normalization import has_running_stats
from monai_tta.core.objectives import Head, probabilities
from monai_tta.core.record import Case
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views
from monai_tta.core.views import Views
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.evaluation.surface_dice import structure_nsd
from monai_tta.guards.base import Guard
from monai_tta.guards.evidence import Evidence, extra_forward_passes
from monai_tta.guards.reference_ranges import ReferenceRanges, read_reference_ranges, reference_file
from monai_tta.inference.network import Network, unwrap
from monai_tta.methods.statistics import Statistics
from monai_tta.quality import signals
from monai_tta.quality.features import unaugmented_answer

BLENDS = (0.0, 0.1, 0.3, 1.0)  # the source's statistics alone, and those that a comparison tries


def answer_signals(
    p: Tensor, head: Head, spacing: tuple[float, ...] | None = None, reference: ReferenceRanges | None = None
) -> dict[str, float]:
    """The signals that the answer of a whole image shows by itself.

    Args:
        p: probabilities ``(1, K, *spatial)``.
        head: what they stand for.
        spacing: of a voxel along each axis; None counts voxels.
        reference: of the source's own cases. It is not used where it is of other structures or another unit of length.
    """
    masks = hard_masks(p, head)[0]
    voxel = prod(spacing) if spacing else 1.0
    volumes = [int(mask.sum()) * voxel for mask in masks]
    found = {
        signals.ENTROPY: mean_entropy(p, head),
        signals.ENTROPY_PER_FOREGROUND: signals.entropy_per_foreground(p, head),
        signals.MAX_PROBABILITY: signals.max_probability(p, head),
        signals.VOLUME: sum(volumes),
    }
    away = volumes_against(volumes, reference, "voxel" if spacing is None else "affine")
    return found if away is None else found | {signals.REFERENCE_VOLUME: away}


def volumes_against(volumes: Sequence[float], reference: ReferenceRanges | None, unit: str) -> float | None:
    """How far volumes are from the middle of the source's, in widths of the range of 90 % of its cases; mean over structures.

    Args:
        volumes: of each structure.
        reference: of the source's own cases.
        unit: of lengths: "affine" or "voxel".

    Returns:
        0 or more; None without a reference that fits.
    """
    if reference is None or reference.unit != unit or len(reference.structures) != len(volumes):
        return None
    ranges = [structure.volume for structure in reference.structures]
    away = [
        abs(volume - known.middle) / (known.high - known.low)
        for volume, known in zip(volumes, ranges, strict=True)
        if known is not None and known.high > known.low
    ]
    return sum(away) / len(away) if away else None


def true_surfaces(p: Tensor, label: Tensor, head: Head) -> dict[str, float]:
    """The columns of each structure's true share of surface within 1 voxel, see `structure_nsd`, of the whole image.

    Args:
        p: probabilities ``(1, K, *spatial)``.
        label: ``(L, *spatial)``.
        head: what the probabilities stand for.
    """
    found = structure_nsd(hard_masks(p, head), label_structures(label[None], p.shape[1], head))
    return {signals.true_surface_column(structure): float(figure) for structure, figure in enumerate(found, 1)}


class MeasureWindows(Guard):
    """Refuse nothing, and keep the signals of the windows of each case until `take`.

    Args:
        network: the source.
        mirrors: the axes along which its training images were mirrored; None where that is unknown.
        of_image: whether to measure what belongs to the image, too.
    """

    def __init__(self, network: Network, mirrors: tuple[int, ...] | None = None, of_image: bool = True) -> None:
        self.network = network
        self.mirrors = mirrors
        self.of_image = of_image
        self._found: dict[str, float] = {}
        self._seconds = 0.0
        self._failure: Exception | None = None

    def check(self, evidence: Evidence) -> str | None:
        """Measure. A failure is kept for `take`: raised here, it would pass for one of adapting."""
        began = time.perf_counter()
        try:
            self._found = self._measure(evidence)
        except Exception as error:
            self._failure = error
        self._seconds = time.perf_counter() - began
        return None

    def take(self) -> tuple[dict[str, float], float]:
        """The signals since the last call, and the seconds that they took. No signals where no adapted answer was looked at.

        Raises:
            Exception: what went wrong in measuring.
        """
        found = self._found
        seconds = self._seconds
        failure = self._failure
        self._found = {}
        self._seconds = 0.0
        self._failure = None
        if failure is not None:
            raise failure
        return found, seconds

    def _measure(self, evidence: Evidence) -> dict[str, float]:
        """Nothing where there is no window to look at."""
        windows = [window for window in evidence.windows if window.shape == evidence.windows[0].shape]
        if not windows:
            return {}
        together = torch.cat(windows)
        source = in_eval_mode(unwrap(self.network))
        with extra_forward_passes(together):
            found = dice_of_views(evidence.shadow, together, self.mirrors)
            if self.of_image and has_running_stats(source):
                found[signals.BLENDS] = _dice_of_blends(evidence, source, together)
        if self.of_image and (distances := [distance for distance in evidence.distances if isfinite(distance)]):
            found[signals.DISTANCE] = sum(distances) / len(distances)
        return found


def dice_of_views(shadow: Shadow, windows: Tensor, mirrors: tuple[int, ...] | None) -> dict[str, float]:
    """How far the network behind an answer segments views of windows alike, un-augmented.

    Args:
        shadow: what answered; where it mixes several, the figure is their weighted mean.
        windows: ``(N, C, *spatial)``.
        mirrors: the axes along which the source's training images were mirrored. Where that is known, the poses are these, and
            those of `Views` are a signal of their own; where not, the poses are those of `Views`.
    """
    poses = {signals.ALL_VIEWS: Views()}
    poses = {signals.VIEWS: Views()} if mirrors is None else poses | {signals.VIEWS: Views(axes=mirrors, turns=False)}
    several = {name: views for name, views in poses.items() if len(views.of(windows.shape[2:])) > 1}
    return {
        name: sum(weight * _pairwise(answers_of_views(part, windows, views), part.head) for part, weight in shadow.answering)
        for name, views in several.items()
    }


def _dice_of_blends(evidence: Evidence, source: nn.Module, windows: Tensor) -> float:
    """How far the source segments windows alike with its own statistics, the windows' own, and blends between."""
    answers = []
    for blend in BLENDS:
        shadow = Statistics(statistics="volume", blend=blend).begin(source, evidence.head)
        shadow.run_like(evidence.source)
        shadow.pool_statistics(windows)
        answers.append(unaugmented_answer(shadow, windows))
    return _pairwise(answers, evidence.head)


def _pairwise(answers: Sequence[Tensor], head: Head) -> float:
    """Pairwise Dice of probabilities ``(N, K, *spatial)``, each structure over all windows."""
    return signals.pairwise_dice([voxels_last(hard_masks(p, head)) for p in answers])


class SignalMeasure:
    """Measures all signals of the answers of one inferer.

    Args:
        network: the source.
        weights: its file; reference ranges beside it are used.
        mirrors: the axes along which its training images were mirrored; None where that is unknown.
        of_image: whether to measure what belongs to the image, too.
    """

    def __init__(self, network: Network, weights: Path, mirrors: tuple[int, ...] | None, of_image: bool) -> None:
        self.windows = MeasureWindows(network, mirrors, of_image)
        file = reference_file(weights)
        self.reference = read_reference_ranges(file) if file.is_file() else None

    def signals_of(
        self, answer: Tensor, case: Case, image: Any, truth: Callable[[], Tensor] | None = None
    ) -> tuple[dict[str, float], float]:
        """The signals of the last answer, and the seconds that the guard took. What is not finite is left out.

        Args:
            answer: ``(1, K, *spatial)``, as the network's main output has it.
            case: its record.
            image: with its affine, where it has one; ``(C, *spatial)``.
            truth: gives the label ``(L, *spatial)`` on the grid of the answer. Where a quality predictor spoke, the true figures
                that it is compared with, and that nothing else knows, are measured, too.

        Raises:
            ValueError: where the head is not known, or the label is not of the network's structures.
            Exception: what went wrong in measuring.
        """
        of_windows, seconds = self.windows.take()
        if case.head not in ("softmax", "sigmoid"):
            raise ValueError("the answer does not show whether its channels exclude each other, so no signal can be measured")
        head: Head = "softmax" if case.head == "softmax" else "sigmoid"
        plain = at_least_float32(answer)
        p = plain if case.answers == "probabilities" else probabilities(plain, head)
        own = answer_signals(p, head, voxel_spacing(image, answer.ndim - 2), self.reference)
        own |= of_windows | signals.predicted_quality(case.quality or ())
        if case.quality and truth is not None:
            own |= true_surfaces(p, truth(), head)
        return {name: figure for name, figure in own.items() if isfinite(figure)}, seconds
