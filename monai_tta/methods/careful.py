"""Careful: try several ways to adapt on a case, and let a gain predictor that was fitted on labels choose among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.normalization import TooFewVoxels
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step, repr_for_records
from monai_tta.core.shadow import Shadow
from monai_tta.core.source_look import SourceLook
from monai_tta.core.tasks import answers_of_views, single_answers_of, view_average
from monai_tta.core.views import Views
from monai_tta.methods.careful_candidates import QUICK_VIEWS, quick_candidates, usual_candidates
from monai_tta.methods.careful_rest import WAYS, Rest, contributions
from monai_tta.quality.candidates import CandidatePool, TrialResults, try_candidate
from monai_tta.quality.features import as_logits, candidate_row, feature_table, mixture, structure_tables, unaugmented_answer
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.mixture_weights import MIN_GAIN
from monai_tta.quality.predictor_files import UNIVERSAL, load_predictor, predictor_file, read_predictor

MIN_WEIGHT = 0.02  # a candidate with less weight in the answer is not worth its forward passes


@dataclass(frozen=True, kw_only=True)
class Careful(AdaptationMethod):
    """Mix the answers of those candidates that a gain predictor expects to gain, or else answer as the source does.

    The source answers the adaptation windows in several views. Where the predictor's prefilter expects a gain from what that
    shows, each candidate answers them, too. What an unlabelled case shows of these answers (agreement between views, entropy,
    growth, distance of statistics and more) goes to the gain predictor, which was fitted to distorted source images on which
    the true gain was known. There is one decision per volume. Trees: Geurts et al. 2006; margin by conformal risk control:
    Angelopoulos et al. 2024, arXiv 2208.02814. The recipe is this project's own (docs/careful.md).

    It needs a file of numbers from the source, and keeps nothing from case to case. On the adaptation windows it costs
    (candidates x views) forward passes and what a learning candidate takes itself, or (views + 3) where the prefilter says no.
    The rest of a volume costs one forward pass for each un-augmented answer in the mixture, and one per view for each averaged
    one.

    Args:
        predictor: the file that `monai-tta calibrate` wrote, or "universal" for a network that was never calibrated. "auto" is
            the file beside a bundle's checkpoint where `monai-tta` finds one, else "universal".
        candidates: what to try in place of `usual_candidates`, the source first. Each must define ``candidate_features``.
        views: in which candidates answer; the default stands for those that the predictor was fitted with. One that was made with
            `CalibrationSettings.quick` brings its own candidates, too, unless ``candidates`` are given.
        rest: how the other windows of an image of several are answered. "mixture": by every answer that has a weight.
            "un-augmented": by those that are not averaged over views, where there are such: a seventh of the cost in 2D, and a
            little less gain. "one network": by one whose blend is the mean of theirs, at the cost of the source;
            un-augmented where an answer is of no blend of the volume's statistics.
        min_gain: the gain in Dice that the mixture must be expected to exceed. Less is not worth the risk, unless the gain
            predictor is sure of it: unless its gain, should it fall two spreads short, is still a gain.

    Raises:
        NotImplementedError: for a candidate that says nothing of itself.
        ValueError: for another word for ``rest``.
    """

    predictor: str = "auto"
    candidates: tuple[AdaptationMethod, ...] = ()
    views: Views = Views()
    rest: Rest = "mixture"
    min_gain: float = MIN_GAIN

    def __post_init__(self) -> None:
        if self.rest not in WAYS:
            raise ValueError(f"rest must be one of {', '.join(map(repr, WAYS))}, found {self.rest!r}")
        for candidate in self.candidates:
            candidate_row(candidate.candidate_features)

    @property
    def default_budget(self) -> int:
        """Four: a gain predictor that sees only two windows is wrong more often (docs/careful.md)."""
        return 4

    @property
    def record_name(self) -> str:
        """With the name of the predictor's file alone. Its folder is nobody's business. Candidates are as records call them."""
        return repr_for_records(replace(self, predictor=Path(self.predictor).name))

    @property
    def files(self) -> tuple[Path, ...]:
        """The gain predictor's, and those of the candidates."""
        own = UNIVERSAL if self.predictor in ("auto", "universal") else Path(self.predictor)
        return (own, *(file for candidate in self.candidates for file in candidate.files))

    @property
    def pools_statistics(self) -> bool:
        """True: a decision is one volume's, from its adaptation windows."""
        return True

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """For "auto", the gain predictor beside a file of weights, where there is one; the candidates likewise.

        Raises:
            PredictorError: when a named file cannot be read: at once, rather than once per case.
        """
        beside = predictor_file(weights)
        found = replace(self, candidates=tuple(candidate.for_checkpoint(weights) for candidate in self.candidates))
        found = replace(found, predictor=str(beside)) if self.predictor == "auto" and beside.is_file() else found
        if found.predictor not in ("auto", "universal"):
            read_predictor(Path(found.predictor))
        return found

    def begin(self, source: nn.Module, head: Head) -> CandidatePool:
        """A shadow of the source in which nothing moves. Candidates come when there is a case."""
        load_predictor(self.predictor)
        return CandidatePool(source, head)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero: candidates have losses of their own."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Try the candidates on these windows and decide.

        Raises:
            CannotAdapt: when the gain predictor or its prefilter expects no gain. The source then answers, with this on record.
        """
        pool = _pool(shadow)
        predictor = load_predictor(self.predictor)
        pool.contributions = []
        pool.answered_windows = None
        pool.views = self.views_for(predictor.quick, predictor.views)
        results = self.run_candidates(pool, windows, predictor)
        predicted = predictor.predict_gains(results.features.numpy())
        weights = predictor.mixture_weights(predicted, self.min_gain)
        best = float(predicted.gain.max())
        if not weights.any():
            wanted = f"more than {100 * self.min_gain:g} points of Dice"
            raise CannotAdapt(f"the gain predictor expects no gain of {wanted} that it is sure of (at best {100 * best:+.1f})")
        weights = weights * (weights >= MIN_WEIGHT)
        weights = weights / weights.sum()
        kept = [(trial, float(w)) for trial, w in zip(results.trials, weights, strict=True) if w > 0]
        pool.contributions, of_rest = contributions(self.rest, kept, pool, windows)
        pool.answered_windows = windows
        pool.stored_answer = mixture([trial.answer.probabilities for trial, _ in kept], [w for _, w in kept])
        return (Step(notes={"expected gain": best, **{trial.name: w for trial, w in kept}, **of_rest}),)

    def views_for(self, quick: bool, of_predictor: Views | None = None) -> Views:
        """The views in which candidates answer.

        Args:
            quick: whether the gain predictor is, or is to be, one for few candidates and views.
            of_predictor: those that the gain predictor was fitted with, where its file says so. They decide what the method's own
                leave open.
        """
        usual = QUICK_VIEWS if quick and not self.candidates else self.views
        return self.views.or_else(of_predictor or usual)

    def run_candidates(
        self,
        pool: CandidatePool,
        windows: Tensor,
        predictor: GainPredictor | None = None,
        look: SourceLook | None = None,
        quick: bool = False,
    ) -> TrialResults:
        """Try every candidate on the adaptation windows ``(N, C, *spatial)``.

        Args:
            pool: a shadow that this method began.
            windows: the adaptation windows.
            predictor: its prefilter may say that candidates need not run; None runs them all, and describes each structure.
            look: of the source's images, for `usual_candidates`; the predictor's own where there is one.
            quick: try few candidates in few views; as the predictor was made, where there is one.

        Raises:
            CannotAdapt: when the source's own answers are enough for the prefilter to say no.
        """
        look, quick = (predictor.look, predictor.quick) if predictor else (look, quick)
        tried = quick_candidates() if quick else usual_candidates(pool.source, len(windows), look)
        source, *others = self.candidates or tried
        views = self.views_for(quick, predictor.views if predictor else None)
        in_full = predictor is None
        trials = try_candidate(source, pool, windows, views, in_full)
        unadapted = unaugmented_answer(pool, windows)
        distances = pool.distances(windows)
        source_features = feature_table([t.answer for t in trials], unadapted, pool.head, distances)
        if predictor and predictor.prefilter_gain(source_features.numpy()) <= predictor.prefilter_threshold:
            raise CannotAdapt("the gain predictor's prefilter expects no gain, from the source's own answers")
        for candidate in others:
            with suppress(CannotAdapt, FloatingPointError, TooFewVoxels):  # one candidate may fail on this image; others may not
                trials += try_candidate(candidate, pool, windows, views, in_full)
        features = feature_table([t.answer for t in trials], unadapted, pool.head, distances)
        by_structure = structure_tables([t.answer for t in trials], unadapted, pool.head, distances) if in_full else None
        return TrialResults(tuple(trials), unadapted, features, source_features, by_structure)

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """The weighted mean, in the network's own form. Its other outputs, if it has any, are the weightiest candidate's."""
        pool = _pool(shadow)
        weightiest = max(pool.contributions, key=lambda contribution: contribution.weight).shadow
        logits = as_logits(self._mean_answer(pool, windows), pool.head)
        return pool.reader.answer_of(logits, pool.head, lambda: weightiest.outputs(windows))

    def answer_in_views(self, shadow: Shadow, windows: Tensor, views: Views) -> tuple[Tensor, list[Tensor]]:
        """The mixture, and mixtures of the contributing candidates' answers in single views.

        Args:
            shadow: of this method.
            windows: ``(N, C, *spatial)``.
            views: which mirrors and turns.
        """
        pool = _pool(shadow)
        total = sum(c.weight for c in pool.contributions)
        of_views: list[Tensor] = []
        for contribution in pool.contributions:
            contribution.shadow.extra = pool.extra
            own = answers_of_views(contribution.shadow, windows, views)
            parts = [contribution.weight / total * p for p in own]
            of_views = [a + b for a, b in zip(of_views, parts, strict=True)] if of_views else parts
        return self._mean_answer(pool, windows), of_views

    def single_answers(self, shadow: Shadow, windows: Tensor, views: Views) -> Iterator[tuple[float, Tensor]]:
        """The contributing candidates' answers in single views, by their weights in the mixture; arguments as above."""
        return single_answers_of(shadow, windows, views)

    def _mean_answer(self, pool: CandidatePool, windows: Tensor) -> Tensor:
        """The weighted mean of the candidates' probabilities ``(N, K, *spatial)``."""
        stored = pool.stored_answer
        if pool.answered_windows is not None and stored is not None and torch.equal(pool.answered_windows, windows):
            return stored  # an image of one window was answered while the candidates were tried
        parts = []
        for contribution in pool.contributions:
            own = contribution.shadow
            own.extra = pool.extra
            parts.append(view_average(own, windows, pool.views) if contribution.averaged else unaugmented_answer(own, windows))
        total = sum(c.weight for c in pool.contributions)
        return mixture(parts, [c.weight / total for c in pool.contributions])


def _pool(shadow: Shadow) -> CandidatePool:
    if not isinstance(shadow, CandidatePool):
        raise TypeError(f"Careful works on the shadow that its begin() makes, found {type(shadow).__name__}")
    return shadow
