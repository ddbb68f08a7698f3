"""Careful: several ways to adapt are tried on a case, and a judge calibrated where the labels are says which to trust."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.judge import Judge, NoJudge
from monai_tta.method import AdaptationMethod, Descent, Loss
from monai_tta.methods.consistency import Consistency
from monai_tta.methods.grata import GraTa
from monai_tta.methods.statistics import Statistics
from monai_tta.normalization import TooFewVoxels, remembers
from monai_tta.panel import FEATURES, Opinion, as_logits, describe, mixture, opinions, plain_answer
from monai_tta.record import Step
from monai_tta.shadow import CannotAdapt, Shadow
from monai_tta.tasks import average
from monai_tta.updates import Adam
from monai_tta.views import Views

BLENDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
UNIVERSAL = Path(__file__).parent.parent / "judges" / "universal.npz"
FEW = 0.02  # of the answer: what a candidate must at least contribute to be worth its forward passes


def usual_candidates(source: nn.Module) -> tuple[AdaptationMethod, ...]:
    """What is tried on a network, the source itself first: seven blends of the volume's statistics where it remembers the
    source's, else steps of consistency and GraTa."""
    if remembers(source):
        return tuple(Statistics(statistics="volume", blend=b) for b in BLENDS)
    rate = Adam(rate=1e-2)
    steps = (Consistency(optimizer=rate), Consistency(optimizer=rate, steps=4), GraTa(optimizer=rate, steps=4))
    return (Statistics(statistics="source", blend=0.0), *steps)


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
    """All answers for the teaching windows, the source's plain one (probabilities ``(N, K, *spatial)``), and the judge's table
    ``(answers, features)``."""

    answers: tuple[Answer, ...]
    plain: Tensor
    table: Tensor


@dataclass(frozen=True, kw_only=True)
class Careful(AdaptationMethod):
    """Answer with the candidates that a calibrated judge expects to gain, weighted by how much, else as the source does.

    Each candidate answers the teaching windows from all sides; what an unlabelled case shows of the answers (agreement between
    views, entropy, growth, likeness, distance of statistics ...) goes to the judge, which knows from distorted source images
    what became of such answers. One decision per volume. Trees: Geurts et al. 2006; margin by conformal risk control:
    Angelopoulos et al. 2024, arXiv 2208.02814. The recipe is this project's own (docs/careful.md).

    ``judge`` is the file that `monai-tta calibrate` wrote, or "universal" for a network that was never calibrated; "auto" is the
    file that belongs to a bundle's checkpoint where `monai-tta` knows of one, else "universal".
    ``thorough=False`` answers the windows of an image that has several from the front alone: a seventh of the cost in 2D,
    a little less gain. ``candidates`` are tried in place of `usual_candidates` (the source first); ``views`` must be the judge's.
    Cost: a teaching window takes (candidates x views) forward passes and each learning candidate's own; the rest of a volume
    one for each front answer that has a say, and one per view for each average.
    """

    judge: str = "auto"
    candidates: tuple[AdaptationMethod, ...] = ()
    views: Views = Views()
    thorough: bool = True

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
            CannotAdapt: when the judge expects no gain; the image is then answered plainly, with this on record.
        """
        assert isinstance(shadow, Council)
        judge = judge_of(self.judge)
        shadow.members, shadow.asked = [], None
        heard = self.hear(shadow, windows)
        gain, spread = judge.gains(heard.table.numpy())
        shares, best = judge.shares(gain, spread), float(gain.max())
        if not shares.any():
            raise CannotAdapt(f"the judge expects no gain that it is sure of (at best {100 * best:+.1f} points of Dice)")
        shares = shares * (shares >= FEW)
        shares = shares / shares.sum()
        kept = [(a, float(w)) for a, w in zip(heard.answers, shares, strict=True) if w > 0]
        fronts = [k for k in kept if not k[0].said.averaged]
        shadow.members = [(a.shadow, a.said.averaged, w) for a, w in (kept if self.thorough or not fronts else fronts)]
        shadow.asked, shadow.answer = windows, mixture([a.said.p for a, _ in kept], [w for _, w in kept])
        return (Step(notes={"expected gain": best, **{a.name: w for a, w in kept}}),)

    def hear(self, council: Council, windows: Tensor) -> Hearing:
        """What each candidate answers for the teaching windows, and what the case shows of the answers."""
        answers: list[Answer] = []
        for candidate in self.candidates or usual_candidates(council.source):
            try:
                own = self._tried(candidate, council, windows)
                front, averaged = opinions(own, windows, self.views, *marks(candidate))
            except (CannotAdapt, FloatingPointError, TooFewVoxels):
                if not answers:  # the source itself; without it there is nothing to compare with
                    raise
                continue  # this way doesn't go on this image; the others may
            if not bool(averaged.p.isfinite().all()):
                raise FloatingPointError(f"the answer of {candidate!r} is not finite; no judgement is possible")
            answers += [Answer(own, averaged, f"{candidate!r}, views averaged"), Answer(own, front, repr(candidate))]
        plain = plain_answer(council, windows)
        table = describe([a.said for a in answers], plain, council.head, council.distances(windows))
        return Hearing(tuple(answers), plain, table)

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


def marks(candidate: AdaptationMethod) -> tuple[float, float]:
    """A candidate's blend in [0, 1], and its reach: learning rate times steps."""
    reach = candidate.optimizer.rate * candidate.steps if isinstance(candidate, Descent) else 0.0
    return float(getattr(candidate, "blend", 0.0)), reach


def judge_file(root: Path, checkpoint: str) -> Path:
    """Where the judge of a bundle's checkpoint is kept."""
    stem = Path(checkpoint).stem
    return root / "models" / ("judge.npz" if stem == "model" else f"judge_{stem}.npz")


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
        _read(Path(method.judge), _changed(Path(method.judge)))
    return method


def careful_of(bundle_root: str, checkpoint: str = "model.pt") -> AdaptationMethod:
    """`Careful` with the judge of a bundle, for a config's ``_target_``."""
    return with_own_judge(Careful(), Path(bundle_root), checkpoint)


def judge_of(name: str) -> Judge:
    """The judge in a file, or the universal one.

    Raises:
        CannotAdapt: when there is none, or one that this version cannot ask.
    """
    path = UNIVERSAL if name in ("auto", "universal") else Path(name)
    try:
        judge = _read(path, _changed(path))
    except NoJudge as error:
        raise CannotAdapt(str(error).replace(str(path), path.name)) from error  # records hold no paths
    if judge.features != FEATURES:
        raise CannotAdapt(f"{path.name} judges by other features than this version shows; calibrate again")
    return judge


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=8)
def _read(path: Path, when: int) -> Judge:
    return Judge.load(path)
