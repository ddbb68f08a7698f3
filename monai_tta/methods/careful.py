"""Careful: several ways to adapt are tried on a case, and a judge calibrated where the labels are says which to trust."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import each_finite
from monai_tta.core.image_edits import EDITS
from monai_tta.core.method import AdaptationMethod, Descent, Loss
from monai_tta.core.normalization import TooFewVoxels, has_running_stats
from monai_tta.core.optimizers import Adam
from monai_tta.core.record import Step
from monai_tta.core.shadow import CannotAdapt, Shadow
from monai_tta.core.tasks import average
from monai_tta.core.views import Views
from monai_tta.methods.consistency import Consistency
from monai_tta.methods.image_edit import ImageEdit
from monai_tta.methods.statistics import Statistics
from monai_tta.quality.features import CandidateAnswer, as_logits, candidate_answers, describe, mixture, plain_answer
from monai_tta.quality.gain_predictor import MIN_GAIN, GainPredictor
from monai_tta.quality.predictor_files import load_predictor

BLENDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MIN_WEIGHT = 0.02  # of the answer: what a candidate must at least contribute to be worth its forward passes


def usual_candidates(source: nn.Module, windows: int = 1) -> tuple[AdaptationMethod, ...]:
    """What is tried on a network, the source itself first: seven blends of the volume's statistics where it remembers the
    source's, and two of each window's own where several windows teach; else a step of consistency, and the image retouched."""
    if has_running_stats(source):
        own = [Statistics(statistics="window", blend=b) for b in (0.3, 1.0)] if windows > 1 else []
        return (*(Statistics(statistics="volume", blend=b) for b in BLENDS), *own)
    still, step = Statistics(statistics="source", blend=0.0), Consistency(optimizer=Adam(lr=1e-2))
    return (still, step, *(ImageEdit(way=way) for way in EDITS))


class CandidatePool(Shadow):
    """The source's shadow, with those of the candidates that have a say in the answer."""

    def __init__(self, source: nn.Module, head: Any) -> None:
        super().__init__(source, head, None)
        self.source = source
        self.members: list[tuple[Shadow, bool, float]] = []
        self.asked: Tensor | None = None
        self.answer: Tensor | None = None

    @property
    def weight_distance(self) -> float:
        """The longest way of a member's moving tensors from the source's."""
        return max((s.weight_distance for s, _, _ in self.members), default=0.0)


@dataclass(frozen=True, eq=False)
class CandidateTrial:
    """One candidate's shadow, what it said of the teaching windows, and its name."""

    shadow: Shadow
    said: CandidateAnswer
    name: str


@dataclass(frozen=True, eq=False)
class TrialResults:
    """All answers for the teaching windows, the source's plain one (probabilities ``(N, K, *spatial)``), the judge's table
    ``(answers, features)``, and the scout's ``(2, features)`` of the source's own answers alone."""

    answers: tuple[CandidateTrial, ...]
    plain: Tensor
    table: Tensor
    first: Tensor


@dataclass(frozen=True, kw_only=True)
class Careful(AdaptationMethod):
    """Answer with the candidates that a calibrated judge expects to gain, weighted by how much, else as the source does.

    The source answers the teaching windows from all sides, and where the judge's scout expects a gain from what that shows, so
    does each candidate; what an unlabelled case shows of the answers (agreement between views, entropy, growth, likeness,
    distance of statistics ...) goes to the judge, which knows from distorted source images what became of such answers. One
    decision per volume. Trees: Geurts et al. 2006; margin by conformal risk control:
    Angelopoulos et al. 2024, arXiv 2208.02814. The recipe is this project's own (docs/careful.md).

    ``judge`` is the file that `monai-tta calibrate` wrote, or "universal" for a network that was never calibrated; "auto" is the
    file that belongs to a bundle's checkpoint where `monai-tta` knows of one, else "universal".
    ``thorough=False`` answers the windows of an image that has several from the front alone where an answer from the front has
    a say: a seventh of the cost in 2D, a little less gain. ``worth`` is the gain in Dice that the mixture must be expected to
    have; less is not worth the risk. ``candidates`` are tried in place of `usual_candidates` (the source first); ``views`` must
    be the judge's.
    Cost: a teaching window takes (candidates x views) forward passes and each learning candidate's own, or (views + 3) where the
    scout says no; the rest of a volume one for each front answer that has a say, and one per view for each average.
    """

    predictor: str = "auto"
    candidates: tuple[AdaptationMethod, ...] = ()
    views: Views = Views()
    thorough: bool = True
    min_gain: float = MIN_GAIN

    @property
    def teachers(self) -> int:
        """Four: a judge who has seen two windows only is wrong more often (docs/careful.md)."""
        return 4

    @property
    def record_name(self) -> str:
        """With the judge's file by name alone: where it lies is nobody's business."""
        return repr(replace(self, predictor=Path(self.predictor).name))

    @property
    def pools_statistics(self) -> bool:
        """True: decisions are one volume's, from its teaching windows."""
        return True

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow of the source in which nothing moves; candidates come when there is a case."""
        load_predictor(self.predictor)
        return CandidatePool(source, head)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero: candidates have losses of their own."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Try the candidates anew on these windows and decide.

        Raises:
            CannotAdapt: when the judge or its scout expects no gain; the image is then answered plainly, with this on record.
        """
        assert isinstance(shadow, CandidatePool)
        predictor = load_predictor(self.predictor)
        shadow.members, shadow.asked = [], None
        collect_cases = self.run_candidates(shadow, windows, predictor)
        gain, spread = predictor.gains(collect_cases.table.numpy())
        shares, best = predictor.shares(gain, spread, self.min_gain), float(gain.max())
        if not shares.any():
            wanted = f"more than {100 * self.min_gain:g} points of Dice"
            raise CannotAdapt(f"the judge expects no gain of {wanted} that it is sure of (at best {100 * best:+.1f})")
        shares = shares * (shares >= MIN_WEIGHT)
        shares = shares / shares.sum()
        kept = [(a, float(w)) for a, w in zip(collect_cases.answers, shares, strict=True) if w > 0]
        fronts = [k for k in kept if not k[0].said.averaged]
        shadow.members = [(a.shadow, a.said.averaged, w) for a, w in (kept if self.thorough or not fronts else fronts)]
        shadow.asked, shadow.answer = windows, mixture([a.said.p for a, _ in kept], [w for _, w in kept])
        return (Step(notes={"expected gain": best, **{a.name: w for a, w in kept}}),)

    def run_candidates(self, council: CandidatePool, windows: Tensor, predictor: GainPredictor | None = None) -> TrialResults:
        """What each candidate answers for the teaching windows, and what the case shows of the answers.

        Raises:
            CannotAdapt: when the source's own answers are enough for a judge's scout to say no.
        """
        source, *others = self.candidates or usual_candidates(council.source, len(windows))
        answers = self._asked(source, council, windows)
        plain, distances = plain_answer(council, windows), council.distances(windows)
        first = describe([a.said for a in answers], plain, council.head, distances)
        if predictor and predictor.expected_gain(first.numpy()) <= predictor.prefilter_threshold:
            raise CannotAdapt("the judge expects no gain at first sight, from the source's own answers")
        for candidate in others:
            with suppress(CannotAdapt, FloatingPointError, TooFewVoxels):  # one way may not go on this image; the others may
                answers += self._asked(candidate, council, windows)
        return TrialResults(tuple(answers), plain, describe([a.said for a in answers], plain, council.head, distances), first)

    def _asked(self, candidate: AdaptationMethod, council: CandidatePool, windows: Tensor) -> list[CandidateTrial]:
        """A candidate's answers: views averaged, and from the front."""
        own = self._tried(candidate, council, windows)
        front, averaged = candidate_answers(own, windows, self.views, marks(candidate))
        if not bool(each_finite(averaged.p).all()):
            raise FloatingPointError(f"the answer of {candidate!r} is not finite; no judgement is possible")
        return [CandidateTrial(own, averaged, f"{candidate!r}, views averaged"), CandidateTrial(own, front, repr(candidate))]

    def _tried(self, candidate: AdaptationMethod, shadow: CandidatePool, windows: Tensor) -> Shadow:
        """A candidate's shadow when it has seen the windows."""
        own = candidate.begin(shadow.source, shadow.head)
        own.seed(shadow.draw())
        own.extra, own.precision = shadow.extra, shadow.precision
        if shadow.recomputes:
            own.recompute()
        own.pool_statistics(windows)
        if candidate.learns:
            candidate.adapt(own, windows, candidate.loss)
        return own

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Logits of the weighted mean: a single tensor ``(N, K, *spatial)``."""
        assert isinstance(shadow, CandidatePool)
        if shadow.asked is not None and shadow.answer is not None and torch.equal(shadow.asked, windows):
            return as_logits(shadow.answer, shadow.head)  # an image that is one window was answered while it was judged
        return as_logits(self._mixed(shadow, windows), shadow.head)

    def _mixed(self, shadow: CandidatePool, windows: Tensor) -> Tensor:
        parts = []
        for own, averaged, _ in shadow.members:
            own.extra = shadow.extra
            parts.append(average(own, windows, self.views) if averaged else plain_answer(own, windows))
        total = sum(w for _, _, w in shadow.members)
        return mixture(parts, [w / total for _, _, w in shadow.members])


def marks(candidate: AdaptationMethod) -> tuple[float, ...]:
    """A candidate's `monai_tta.quality.features.CANDIDATE_FEATURES`."""
    look_ahead = candidate.optimizer.lr * candidate.steps if isinstance(candidate, Descent) else 0.0
    ways = (float(isinstance(candidate, ImageEdit) and candidate.way == way) for way in EDITS)
    by_window = isinstance(candidate, Statistics) and candidate.statistics == "window"
    return (float(getattr(candidate, "blend", 0.0)), float(by_window), look_ahead, *ways)
