"""One image's way through an `AdaptiveInferer`: plain answer, teaching, adapted answer, verdict, record."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.checkpointing import is_out_of_memory
from monai_tta.compute.containers import map_tensors
from monai_tta.compute.distributed import all_agree, together
from monai_tta.compute.precision import Precision, lacks_half_kernel, without_weight_cache
from monai_tta.core.record import Step
from monai_tta.core.shadow import CannotAdapt, Shadow
from monai_tta.guards.evidence import MAX_GUARD_WINDOWS, spread_evenly
from monai_tta.inference.case_evidence import evidence_of
from monai_tta.inference.decision import collapsed, record_of, verdict
from monai_tta.inference.first_pass import SourceProxy, WindowScan, detached_copy, has_per_window_inputs, scan_windows
from monai_tta.inference.network import NetworkProxy, describe_failure
from monai_tta.inference.window_selection import WindowSelector, can_adapt_from

_log = logging.getLogger(__name__)


class Episode:
    """One case. ``shadow`` is what may be carried on when it is over (None: nothing)."""

    def __init__(self, inferer: Any, network: Any, source: Any, number: int) -> None:
        self.inferer, self.network, self.source = inferer, network, source
        self.method, self.number = inferer.method, number
        self.shadow: Shadow | None = None
        self.steps: list[Step] = []
        self.n_windows, self.touched, self.agreed = 0, False, False
        self.seed = inferer.seed if inferer.reset != "never" else inferer.seed + number
        self.extra: tuple[Any, Any] = ((), {})
        self.survey = SourceProxy(network, source, inferer.head)
        self.precision: Precision = inferer.precision
        self.seconds_plain: float | None = None
        self.changed_fraction: float | None = None
        self.whole: Any = None  # the plain answer of the whole image, once somebody has asked for it
        self.chosen: list[Tensor] = []
        self.carried = False
        self.restarted: str | None = None
        self.began = time.perf_counter()

    def plain(self, inputs: Tensor, args: Any, kwargs: Any, reason: str | None = None) -> Any:
        """Answer plainly; for a reason, or because the method would not answer otherwise."""
        answer = self.plainly(inputs, args, kwargs) if self.whole is None else self.whole
        self._note(inputs, reason)
        return answer

    def answer(self, inputs: Tensor, args: Any, kwargs: Any, shadow: Shadow | None) -> Any:
        """The adapted answer, or the plain one where adapting fails or is refused."""
        self.carried = shadow is not None
        self.shadow, anew = shadow, None
        try:
            teachers = self._glance(inputs, args, kwargs)
            with torch.inference_mode(False):
                self._take(shadow or self.method.begin(self.source, self.survey.head))
                if teachers is not None:
                    self._teach(teachers)
            adapted = self.inferer.plainly(inputs, NetworkProxy(self.network, self._adapted), args, kwargs)
            evidence = evidence_of(self, adapted, inputs, args, kwargs)
            anew = collapsed(self, evidence)
            reason = verdict(self, evidence) if anew is None else anew
        except Exception as failure:  # whatever a network or a method does, the plain answer can be had
            if self.precision == "fast" and lacks_half_kernel(failure) and not self.agreed:
                self.precision = "exact"
                return self._again(inputs, args, kwargs, None if self.touched else shadow)
            _log.debug("adapting failed", exc_info=failure)
            reason = describe_failure(failure)
        if anew is not None:
            self.restarted = anew
            if not self.inferer.together:  # the others don't learn this case again
                return self._again(inputs, args, kwargs, None)
        if self.inferer.together:
            self._agree(False)  # the others may still be waiting to hear whether all can learn
            if not all_agree(reason is None or not self.touched):
                self.shadow = None
        if reason is None:
            self._note(inputs, None)
            return adapted
        if self.touched or not self.carried:
            self.shadow = None
        return self.plain(inputs, args, kwargs, reason)

    def _again(self, inputs: Tensor, args: Any, kwargs: Any, shadow: Shadow | None) -> Any:
        """Begin the case again with this shadow, or a newborn one."""
        self.steps, self.n_windows, self.touched, self.chosen = [], 0, False, []
        return self.answer(inputs, args, kwargs, shadow)

    def plainly(self, inputs: Tensor, args: Any, kwargs: Any) -> Any:
        """The source's answer of the whole image."""
        began = time.perf_counter()
        survey = SourceProxy(self.network, self.source, self.inferer.head)
        network = self.network if self.source is None else NetworkProxy(self.network, survey.answer)
        answer = self.inferer.plainly(inputs, network, args, kwargs)
        self.survey = survey
        survey.note(answer, survey.key)
        self.seconds_plain = time.perf_counter() - began
        return answer

    def _glance(self, inputs: Tensor, args: Any, kwargs: Any) -> WindowSelector | None:
        """Find out what the source's answers are like, and which windows can teach, where windows of the volume do."""
        wanted = self.inferer.learn == "volume" and (self.method.learns or self.method.pools_statistics)
        teachers = WindowSelector(self.inferer.budget) if wanted else None
        self.survey = scan_windows(self, inputs, args, kwargs, teachers.offer if teachers else None)
        return teachers

    def _take(self, shadow: Shadow) -> None:
        """Adapt with this shadow from now on."""
        shadow.seed(self.seed)
        shadow.precision = self.precision
        if self.inferer.recompute:
            shadow.recompute()
        self.shadow = shadow

    def _teach(self, teachers: WindowSelector) -> None:
        """Learn from the chosen windows, all at once."""
        assert isinstance(self.survey, WindowScan)
        chosen = self.survey.choose(teachers)
        if not self._agree(bool(chosen)) and chosen:
            raise CannotAdapt("an image that another process learns from at the same time can't teach")
        if not chosen:
            raise CannotAdapt("no window can teach: each one is constant or holds NaN or infinity")
        if len({w.shape for w in chosen}) > 1:
            raise CannotAdapt("the inferer asks about windows of several sizes, which can't teach together; use learn='window'")
        self.extra = self.survey.extra
        self.chosen = spread_evenly(chosen if self.method.pools_statistics else teachers.at_least(chosen, MAX_GUARD_WINDOWS))
        self._learn(torch.cat(chosen))

    def _agree(self, able: bool) -> bool:
        """Whether all processes that learn together can; asked once for each case."""
        if self.inferer.together and not self.agreed:
            self.agreed, able = True, all_agree(able)
        return able

    def _learn(self, windows: Tensor) -> None:
        """One call of `adapt`, in the precision of the weights, whatever the caller's switches are."""
        shadow = self.shadow
        assert shadow is not None
        if has_per_window_inputs(*self.extra) and (len(windows) > 1 or self.inferer.learn == "volume"):
            raise CannotAdapt(
                "the network is given coordinates, clicks or a condition of each window's own, which can't be told apart while "
                "several windows teach at once; use learn='window' with sw_batch_size=1"
            )
        weights = next((p for p in shadow.module.parameters() if p.is_floating_point()), windows)
        windows = windows.to(device=weights.device, dtype=weights.dtype)
        shadow.extra, self.touched = self.extra, True
        shared = together() if self.inferer.together else nullcontext()
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(windows.device.type, enabled=False), shared:
            shadow.pool_statistics(windows)
            if self.method.learns:
                self.steps += self.method.adapt(shadow, windows, self.method.loss)
        self.n_windows += len(windows)

    def _adapted(self, windows: Tensor, more: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Answer windows; learn from them first when learning window by window."""
        self.extra = (more, named)
        if self.inferer.learn == "window":
            if self.inferer.reset == "window" and len(windows) > 1:
                raise CannotAdapt("reset='window' needs sw_batch_size=1: windows of a batch share one shadow")
            with torch.inference_mode(False):
                if self.inferer.reset == "window":
                    self._take(self.method.begin(self.source, self.survey.head))
                if self.method.learns and can_adapt_from(own := detached_copy(windows)):
                    self._learn(own)
        assert self.shadow is not None
        self.shadow.extra = self.extra
        with torch.inference_mode(False), torch.no_grad(), without_weight_cache(windows.device):
            return self.survey.restore_format(self._predicted(detached_copy(windows)), windows)

    def _predicted(self, windows: Tensor) -> Any:
        """The shadow's answer; where memory does not suffice for a batch of windows, in halves of it."""
        try:
            return self.method.predict(self.shadow, windows)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(windows) < 2 or has_per_window_inputs(*self.extra):
                raise
        halves = [self._predicted(half) for half in windows.chunk(2)]
        return map_tensors(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *halves)

    def _note(self, inputs: Tensor, reason: str | None) -> None:
        self.inferer.note(record_of(self, inputs.shape, reason))
