"""Candidates tried on a case: their shadows, what they answered, and those that have a part in the mixture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from monai_tta.compute.precision import each_finite
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.objectives import Head
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.quality.features import CandidateAnswer, candidate_answers, candidate_row


@dataclass(frozen=True, eq=False)
class Contribution:
    """A candidate that has a part in the answer: its shadow, whether its views are averaged, and its weight."""

    shadow: Shadow
    averaged: bool
    weight: float


class CandidatePool(Shadow):
    """The source's shadow, with the shadows of those candidates that have a part in the answer."""

    def __init__(self, source: nn.Module, head: Head) -> None:
        super().__init__(source, head, None)
        self.source = source
        self.contributions: list[Contribution] = []
        self.views = Views()  # in which an averaged answer is averaged
        self.answered_windows: Tensor | None = None
        self.stored_answer: Tensor | None = None

    @property
    def answering(self) -> tuple[tuple[Shadow, float], ...]:
        """The candidates that have a part in the answer; this shadow, the source's, where none has."""
        total = sum(c.weight for c in self.contributions)
        return tuple((c.shadow, c.weight / total) for c in self.contributions) or ((self, 1.0),)

    @property
    def weight_distance(self) -> float:
        """The largest distance of a contributing candidate's moving tensors from the source's."""
        return max((c.shadow.weight_distance for c in self.contributions), default=0.0)

    @property
    def n_kept_source(self) -> int:
        """The largest number of layers of a contributing candidate that kept the source's statistics."""
        return max((c.shadow.n_kept_source for c in self.contributions), default=0)


@dataclass(frozen=True, eq=False)
class Trial:
    """One candidate tried: the method, its shadow, its answer for the adaptation windows, and its name."""

    candidate: AdaptationMethod
    shadow: Shadow
    answer: CandidateAnswer
    name: str


@dataclass(frozen=True, eq=False)
class TrialResults:
    """All candidates tried on a case.

    Args:
        trials: two for each candidate that worked, averaged over views and un-augmented; the source's first.
        unadapted: the source's answer for the adaptation windows, probabilities ``(N, K, *spatial)``.
        features: the gain predictor's table ``(trials, features)``.
        source_features: the prefilter's ``(2, features)``, of the source's own answers alone.
        structure_features: ``(trials, structures, STRUCTURE_FEATURES)``; None where nobody asked.
    """

    trials: tuple[Trial, ...]
    unadapted: Tensor
    features: Tensor
    source_features: Tensor
    structure_features: Tensor | None = None


def try_candidate(
    candidate: AdaptationMethod, pool: CandidatePool, windows: Tensor, views: Views, by_structure: bool = False
) -> list[Trial]:
    """A candidate's answers for the adaptation windows ``(N, C, *spatial)``: averaged over views, and un-augmented.

    Figures of each structure are taken where they are wanted (``by_structure``).

    Raises:
        FloatingPointError: when its answer is not finite.
    """
    shadow = adapted_shadow(candidate, pool, windows)
    row = candidate_row(candidate.candidate_features)
    name = candidate.record_name
    unaugmented, averaged = candidate_answers(shadow, windows, views, row, by_structure)
    if not bool(each_finite(averaged.probabilities).all()):
        raise FloatingPointError(f"the answer of {name} is not finite, so it cannot be compared")
    return [
        Trial(candidate, shadow, averaged, f"{name}, averaged over views"),
        Trial(candidate, shadow, unaugmented, name),
    ]


def adapted_shadow(candidate: AdaptationMethod, pool: CandidatePool, windows: Tensor) -> Shadow:
    """A candidate's shadow after it has adapted to the windows.

    Args:
        candidate: the method.
        pool: the shadow that `Careful` began; its source is what adapts.
        windows: ``(N, C, *spatial)``.
    """
    shadow = candidate.begin(pool.source, pool.head)
    shadow.seed(pool.draw())
    shadow.run_like(pool)
    shadow.pool_statistics(windows)
    if candidate.learns:
        candidate.adapt(shadow, windows, candidate.loss)
    return shadow
