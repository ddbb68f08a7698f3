"""Careful: several ways to adapt are tried on a case, and a judge calibrated where the labels are says which to trust."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.judge import WORTH, Judge
from monai_tta.judge_files import judge_file, judge_of, named_judge
from monai_tta.method import AdaptationMethod, Descent, Loss
from monai_tta.methods.consistency import Consistency
from monai_tta.methods.retouched import Retouched
from monai_tta.methods.statistics import Statistics
from monai_tta.normalization import TooFewVoxels, remembers
from monai_tta.panel import Opinion, as_logits, describe, mixture, opinions, plain_answer
from monai_tta.precision import each_finite
from monai_tta.record import Step
from monai_tta.retouch import WAYS
from monai_tta.shadow import CannotAdapt, Shadow
from monai_tta.tasks import average
from monai_tta.updates import Adam
from monai_tta.views import Views

BLENDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
FEW = 0.02  # of the answer: what a candidate must at least contribute to be worth its forward passes


def usual_candidates(source: nn.Module, windows: int = 1) -> tuple[AdaptationMethod, ...]:
    """What is tried on a network, the source itself first: seven blends of the volume's statistics where it remembers the
    source's, and two of each window's own where several windows teach; else a step of consistency, and the image retouched."""
    if remembers(source):
        own = [Statistics(statistics="window", blend=b) for b in (0.3, 1.0)] if windows > 1 else []
        return (*(Statistics(statistics="volume", blend=b) for b in BLENDS), *own)
    still, step = Statistics(statistics="source", blend=0.0), Consistency(optimizer=Adam(rate=1e-2))
    return (still, step, *(Retouched(way=way) for way in WAYS))


class Council(Shadow):
    """The source's shadow, with those of the candidates that have a say in the answer."""

    def __init__(self, source: nn.Module, head: Any) -> None:
        super().__init__(source, head, None)
        self.source = source
        self.members: list[tuple[Shadow, bool, float]] = []
        self.asked: Tensor | None = None
        self.answer: Tensor | None = None

    @property
    def travelled(self) -> float:
        """The longest way of a member's moving tensors from the source's."""
        return max((s.travelled for s, _, _ in self.members), default=0.0)


@dataclass(frozen=True, eq=False)
class Answer:
    """One candidate's shadow, what it said of the teaching windows, and its name."""

    shadow: Shadow
    said: Opinion
    name: str


@dataclass(frozen=True, eq=False)
class Hearing:
    """All answers for the teaching windows, the source's plain one (probabilities ``(N, K, *spatial)``), the judge's table
    ``(answers, features)``, and the scout's ``(2, features)`` of the source's own answers alone."""

    answers: tuple[Answer, ...]
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

    judge: str = "auto"
    candidates: tuple[AdaptationMethod, ...] = ()
    views: Views = Views()
    thorough: bool = True
    worth: float = WORTH

    @property
    def teachers(self) -> int:
        """Four: a judge who has seen two windows only is wrong more often (docs/careful.md)."""
        return 4

    @property
    def on_record(self) -> str:
        """With the judge's file by name alone: where it lies is nobody's business."""
        return repr(replace(self, judge=Path(self.judge).name))

    @property
    def pools(self) -> bool:
        """True: decisions are one volume's, from its teaching windows."""
        return True

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow of the source in which nothing moves; candidates come when there is a case."""
        judge_of(self.judge)
        return Council(source, head)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero: candidates have losses of their own."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Try the candidates anew on these windows and decide.

        Raises:
            CannotAdapt: when the judge or its scout expects no gain; the image is then answered plainly, with this on record.
        """
        assert isinstance(shadow, Council)
        judge = judge_of(self.judge)
        shadow.members, shadow.asked = [], None
        heard = self.hear(shadow, windows, judge)
        gain, spread = judge.gains(heard.table.numpy())
        shares, best = judge.shares(gain, spread, self.worth), float(gain.max())
        if not shares.any():
            wanted = f"more than {100 * self.worth:g} points of Dice"
            raise CannotAdapt(f"the judge expects no gain of {wanted} that it is sure of (at best {100 * best:+.1f})")
        shares = shares * (shares >= FEW)
        shares = shares / shares.sum()
        kept = [(a, float(w)) for a, w in zip(heard.answers, shares, strict=True) if w > 0]
        fronts = [k for k in kept if not k[0].said.averaged]
        shadow.members = [(a.shadow, a.said.averaged, w) for a, w in (kept if self.thorough or not fronts else fronts)]
        shadow.asked, shadow.answer = windows, mixture([a.said.p for a, _ in kept], [w for _, w in kept])
        return (Step(notes={"expected gain": best, **{a.name: w for a, w in kept}}),)

    def hear(self, council: Council, windows: Tensor, judge: Judge | None = None) -> Hearing:
        """What each candidate answers for the teaching windows, and what the case shows of the answers.

        Raises:
            CannotAdapt: when the source's own answers are enough for a judge's scout to say no.
        """
        source, *others = self.candidates or usual_candidates(council.source, len(windows))
        answers = self._asked(source, council, windows)
        plain, distances = plain_answer(council, windows), council.distances(windows)
        first = describe([a.said for a in answers], plain, council.head, distances)
        if judge and judge.expects(first.numpy()) <= judge.bother:
            raise CannotAdapt("the judge expects no gain at first sight, from the source's own answers")
        for candidate in others:
            with suppress(CannotAdapt, FloatingPointError, TooFewVoxels):  # one way may not go on this image; the others may
                answers += self._asked(candidate, council, windows)
        return Hearing(tuple(answers), plain, describe([a.said for a in answers], plain, council.head, distances), first)

    def _asked(self, candidate: AdaptationMethod, council: Council, windows: Tensor) -> list[Answer]:
        """A candidate's answers: views averaged, and from the front."""
        own = self._tried(candidate, council, windows)
        front, averaged = opinions(own, windows, self.views, marks(candidate))
        if not bool(each_finite(averaged.p).all()):
            raise FloatingPointError(f"the answer of {candidate!r} is not finite; no judgement is possible")
        return [Answer(own, averaged, f"{candidate!r}, views averaged"), Answer(own, front, repr(candidate))]

    def _tried(self, candidate: AdaptationMethod, shadow: Council, windows: Tensor) -> Shadow:
        """A candidate's shadow when it has seen the windows."""
        own = candidate.begin(shadow.source, shadow.head)
        own.seed(shadow.draw())
        own.extra, own.precision = shadow.extra, shadow.precision
        if shadow.recomputes:
            own.recompute()
        own.gather(windows)
        if candidate.learns:
            candidate.adapt(own, windows, candidate.loss)
        return own

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Logits of the weighted mean: a single tensor ``(N, K, *spatial)``."""
        assert isinstance(shadow, Council)
        if shadow.asked is not None and shadow.answer is not None and torch.equal(shadow.asked, windows):
            return as_logits(shadow.answer, shadow.head)  # an image that is one window was answered while it was judged
        return as_logits(self._mixed(shadow, windows), shadow.head)

    def _mixed(self, shadow: Council, windows: Tensor) -> Tensor:
        parts = []
        for own, averaged, _ in shadow.members:
            own.extra = shadow.extra
            parts.append(average(own, windows, self.views) if averaged else plain_answer(own, windows))
        total = sum(w for _, _, w in shadow.members)
        return mixture(parts, [w / total for _, _, w in shadow.members])


def marks(candidate: AdaptationMethod) -> tuple[float, ...]:
    """A candidate's `monai_tta.panel.MARKS`."""
    reach = candidate.optimizer.rate * candidate.steps if isinstance(candidate, Descent) else 0.0
    ways = (float(isinstance(candidate, Retouched) and candidate.way == way) for way in WAYS)
    by_window = isinstance(candidate, Statistics) and candidate.statistics == "window"
    return (float(getattr(candidate, "blend", 0.0)), float(by_window), reach, *ways)


def with_own_judge(method: AdaptationMethod, root: Path, checkpoint: str) -> AdaptationMethod:
    """A method whose judge is to be found ("auto") with the one that belongs to a bundle's checkpoint, if there is one.

    Raises:
        NoJudge: when a file that was named can't be read: at once, rather than plain answers for a whole cohort.
    """
    if not isinstance(method, Careful):
        return method
    file = judge_file(root, checkpoint)
    method = replace(method, judge=str(file)) if method.judge == "auto" and file.is_file() else method
    if method.judge not in ("auto", "universal"):
        named_judge(Path(method.judge))
    return method


def careful_of(bundle_root: str, checkpoint: str = "model.pt") -> AdaptationMethod:
    """`Careful` with the judge of a bundle, for a config's ``_target_``."""
    return with_own_judge(Careful(), Path(bundle_root), checkpoint)
