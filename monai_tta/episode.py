"""One image's way through an `AdaptiveInferer`: plain answer, teaching, adapted answer, verdict, record."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext, suppress
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_tta.containers import leafwise, main_output
from monai_tta.guards import finite_answer
from monai_tta.network import Stand, in_words
from monai_tta.objectives import labels
from monai_tta.precision import Precision, uncached, widened, without_kernel
from monai_tta.recompute import short_of_memory
from monai_tta.record import Case, Step, peak_memory
from monai_tta.shadow import CannotAdapt, Shadow
from monai_tta.survey import Enough, Glance, Survey, clean, particular
from monai_tta.teaching import Teachers, usable
from monai_tta.updates import everyone, together

_log = logging.getLogger(__name__)


class Episode:
    """One case. ``shadow`` is what may be carried on when it is over (None: nothing)."""

    def __init__(self, inferer: Any, network: Any, source: Any, number: int) -> None:
        self.inferer, self.network, self.source = inferer, network, source
        self.method, self.number = inferer.method, number
        self.shadow: Shadow | None = None
        self.steps: list[Step] = []
        self.taught, self.touched, self.agreed = 0, False, False
        self.seed = inferer.seed if inferer.reset != "never" else inferer.seed + number
        self.extra: tuple[Any, Any] = ((), {})
        self.survey = Survey(network, source, inferer.head)
        self.precision: Precision = inferer.precision
        self.seconds_plain: float | None = None
        self.changed: float | None = None
        self.began = time.perf_counter()

    def plain(self, inputs: Tensor, args: Any, kwargs: Any, reason: str | None = None) -> Any:
        """Answer plainly; for a reason, or because the method would not answer otherwise."""
        answer = self._plain(inputs, args, kwargs)
        self._note(inputs, reason)
        return answer

    def answer(self, inputs: Tensor, args: Any, kwargs: Any, shadow: Shadow | None) -> Any:
        """The adapted answer, or the plain one where adapting fails or is refused."""
        carried, plain = shadow is not None, None
        self.shadow = shadow
        try:
            teachers = self._glance(inputs, args, kwargs)
            with torch.inference_mode(False):
                self._take(shadow or self.method.begin(self.source, self.survey.head))
                if teachers is not None:
                    self._teach(teachers)
            adapted = self.inferer.plainly(inputs, Stand(self.network, self._adapted), args, kwargs)
            if self.inferer.guard is not None or not bool(main_output(adapted, self.survey.key).isfinite().all()):
                plain = self._plain(inputs, args, kwargs)
            reason = self._verdict(plain, adapted)
        except Exception as failure:  # whatever a network or a method does, the plain answer can be had
            if self.precision == "fast" and without_kernel(failure) and not self.agreed:
                return self._exactly(inputs, args, kwargs, None if self.touched else shadow)
            _log.debug("adapting failed", exc_info=failure)
            reason = in_words(failure)
        if self.inferer.together:
            self._agree(False)  # the others may still be waiting to hear whether all can learn
            if not everyone(reason is None or not self.touched):
                self.shadow = None
        if reason is None:
            self._note(inputs, None)
            return adapted
        if self.touched or not carried:
            self.shadow = None
        if plain is None:
            return self.plain(inputs, args, kwargs, reason)
        self._note(inputs, reason)
        return plain

    def _exactly(self, inputs: Tensor, args: Any, kwargs: Any, shadow: Shadow | None) -> Any:
        """Begin again in the network's own arithmetic."""
        self.precision, self.steps, self.taught, self.touched = "exact", [], 0, False
        return self.answer(inputs, args, kwargs, shadow)

    def _plain(self, inputs: Tensor, args: Any, kwargs: Any) -> Any:
        """The source's answer of the whole image."""
        began = time.perf_counter()
        survey = Survey(self.network, self.source, self.inferer.head)
        network = self.network if self.source is None else Stand(self.network, survey.answer)
        answer = self.inferer.plainly(inputs, network, args, kwargs)
        self.survey = survey
        survey.note(answer, survey.key)
        self.seconds_plain = time.perf_counter() - began
        return answer

    def _glance(self, inputs: Tensor, args: Any, kwargs: Any) -> Teachers | None:
        """Find out what the source's answers are like, and which windows can teach, where windows of the volume do."""
        wanted = self.inferer.learn == "volume" and (self.method.learns or self.method.pools)
        teachers = Teachers(self.inferer.budget) if wanted else None
        # MONAI's stitcher gives the image's meta data to whatever comes; others may leave that to the network.
        simple = type(self.inferer.inferer) in (type(None), SlidingWindowInferer) or not isinstance(inputs, MetaTensor)
        self.survey = glance = Glance(
            self.network,
            self.source,
            self.inferer.head,
            precision=self.precision,
            see=teachers.offer if teachers else None,
            spatial=tuple(inputs.shape[2:]) if simple else None,
        )
        with suppress(Enough):
            self.inferer.plainly(inputs, Stand(self.network, glance.answer), args, kwargs)
        return teachers

    def _take(self, shadow: Shadow) -> None:
        """Adapt with this shadow from now on."""
        shadow.seed(self.seed)
        shadow.precision = self.precision
        if self.inferer.recompute:
            shadow.recompute()
        self.shadow = shadow

    def _teach(self, teachers: Teachers) -> None:
        """Learn from the chosen windows, all at once."""
        assert isinstance(self.survey, Glance)
        chosen = teachers.chosen(self.survey.logits, self.survey.head)
        if not self._agree(bool(chosen)) and chosen:
            raise CannotAdapt("an image that another process learns from at the same time can't teach")
        if not chosen:
            raise CannotAdapt("no window can teach: each one is constant or holds NaN or infinity")
        if len({w.shape for w in chosen}) > 1:
            raise CannotAdapt("the inferer asks about windows of several sizes, which can't teach together; use learn='window'")
        self.extra = self.survey.extra
        self._learn(torch.cat(chosen))

    def _agree(self, able: bool) -> bool:
        """Whether all processes that learn together can; asked once for each case."""
        if self.inferer.together and not self.agreed:
            self.agreed, able = True, everyone(able)
        return able

    def _learn(self, windows: Tensor) -> None:
        """One call of `adapt`, in the precision of the weights, whatever the caller's switches are."""
        shadow = self.shadow
        assert shadow is not None
        if particular(*self.extra) and (len(windows) > 1 or self.inferer.learn == "volume"):
            raise CannotAdapt(
                "the network is given coordinates, clicks or a condition of each window's own, which can't be told apart while "
                "several windows teach at once; use learn='window' with sw_batch_size=1"
            )
        weights = next((p for p in shadow.module.parameters() if p.is_floating_point()), windows)
        windows = windows.to(device=weights.device, dtype=weights.dtype)
        shadow.extra, self.touched = self.extra, True
        shared = together() if self.inferer.together else nullcontext()
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(windows.device.type, enabled=False), shared:
            shadow.gather(windows)
            if self.method.learns:
                self.steps += self.method.adapt(shadow, windows, self.method.loss)
        self.taught += len(windows)

    def _adapted(self, windows: Tensor, more: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Answer windows; learn from them first when learning window by window."""
        self.extra = (more, named)
        if self.inferer.learn == "window":
            if self.inferer.reset == "window" and len(windows) > 1:
                raise CannotAdapt("reset='window' needs sw_batch_size=1: windows of a batch share one shadow")
            with torch.inference_mode(False):
                if self.inferer.reset == "window":
                    self._take(self.method.begin(self.source, self.survey.head))
                if self.method.learns and usable(own := clean(windows)):
                    self._learn(own)
        assert self.shadow is not None
        self.shadow.extra = self.extra
        with torch.inference_mode(False), torch.no_grad(), uncached(windows.device):
            return self._dressed(self._predicted(clean(windows)), windows)

    def _predicted(self, windows: Tensor) -> Any:
        """The shadow's answer; where memory does not suffice for a batch of windows, in halves of it."""
        try:
            return self.method.predict(self.shadow, windows)
        except RuntimeError as error:
            if not short_of_memory(error) or len(windows) < 2 or particular(*self.extra):
                raise
        halves = [self._predicted(half) for half in windows.chunk(2)]
        return leafwise(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *halves)

    def _dressed(self, outputs: Any, windows: Tensor) -> Any:
        """The answer in the precision of the source's, and with the windows' meta data where that carries them."""
        if isinstance(outputs, dict):
            self.survey.key = next(iter(outputs))
        outputs = outputs.to(self.survey.dtype) if isinstance(outputs, Tensor) else leafwise(self._wide, outputs)

        def dress(leaf: Any) -> Any:
            return MetaTensor(leaf).copy_meta_from(windows, copy_attr=False) if isinstance(leaf, Tensor) else leaf

        return leafwise(dress, outputs) if self.survey.meta and isinstance(windows, MetaTensor) else outputs

    def _wide(self, leaf: Any) -> Any:
        """A leaf in float32, where the source answers in it and fast arithmetic made it narrower."""
        return widened(leaf) if isinstance(leaf, Tensor) and self.survey.dtype == torch.float32 else leaf

    def _verdict(self, plain: Any, adapted: Any) -> str | None:
        """Why not to keep the adapted answer; notes how many labels it changes where the plain answer is known."""
        if self.inferer.learn == "window" and self.method.learns and not self.taught:
            return "no window can teach: each one is constant or holds NaN or infinity"
        if plain is None:
            return None
        head: Any = self.survey.head
        before, after = main_output(plain, self.survey.key), main_output(adapted, self.survey.key)
        reason = finite_answer(before, after, head)
        if reason is None and self.inferer.guard is not None:
            reason = self.inferer.guard(before, after, head)
        if reason is None:
            self.changed = float((labels(before, head) != labels(after, head)).any(1).float().mean())
        return reason

    def _note(self, inputs: Tensor, reason: str | None) -> None:
        shadow = self.shadow
        case = Case(
            number=self.number,
            network=type(self.source or self.network).__name__,
            method=repr(self.method),
            head=self.survey.head,
            learn=self.inferer.learn,
            reset=self.inferer.reset,
            seed=self.seed,
            precision=self.precision,
            shape=tuple(inputs.shape),
            budget=self.inferer.budget,
            taught=self.taught,
            moving=sum(t.numel() for t in shadow.moving) if shadow else 0,
            selected=shadow.selected if shadow else None,
            steps=tuple(self.steps),
            travelled=shadow.travelled if shadow else 0.0,
            changed=self.changed,
            seconds=time.perf_counter() - self.began,
            seconds_plain=self.seconds_plain,
            peak_memory=peak_memory(),
            reason=reason,
        )
        self.inferer.note(case)
