"""One image's way through an `AdaptiveInferer`: plain answer, teaching, adapted answer, verdict, record."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import AbstractContextManager
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_tta.containers import leafwise, main_output
from monai_tta.guards import finite_answer
from monai_tta.network import Stand, explain_channels, short_of_memory
from monai_tta.normalization import TooFewVoxels
from monai_tta.objectives import labels
from monai_tta.record import Case, Step
from monai_tta.shadow import CannotAdapt, Shadow
from monai_tta.teaching import Candidates, usable

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

_SAID = (CannotAdapt, TooFewVoxels, FloatingPointError)
_log = logging.getLogger(__name__)


def _clean(windows: Tensor) -> Tensor:
    """A private copy without meta data: the stitcher may write into what it handed over, and an inference tensor
    cannot take part in a gradient."""
    return (windows.as_tensor() if isinstance(windows, MetaTensor) else windows).detach().clone()


def _why(failure: Exception) -> str:
    """A failure in words for a record, which holds no paths."""
    if isinstance(failure, _SAID):
        return str(failure)
    words = "" if isinstance(failure, OSError) else f": {failure}"
    return f"adapting failed with {type(failure).__name__}{words}"


def _own(more: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether the network is given something of each window's own: MONAI's coordinates, condition, or VISTA3D's clicks."""
    coordinates = any(isinstance(a, list) and a and all(isinstance(b, list | tuple) for b in a) for a in more)
    return coordinates or any(isinstance(named.get(key), Tensor) for key in ("condition", "point_coords"))


def _uncached(device: torch.device) -> AbstractContextManager[Any]:
    """The caller's autocast as it is, but with its weight cache off: it would answer with weights from before they moved."""
    kind = device.type
    torch.clear_autocast_cache()
    return torch.autocast(
        kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
    )


class Episode:
    """One case. ``shadow`` is what may be carried on when it is over (None: nothing)."""

    def __init__(self, inferer: Any, network: Any, source: Any, number: int) -> None:
        self.inferer, self.network, self.source = inferer, network, source
        self.method, self.number = inferer.method, number
        self.shadow: Shadow | None = None
        self.head: Any = inferer.head
        self.steps: list[Step] = []
        self.taught, self.touched = 0, False
        self.seed = inferer.seed if inferer.reset != "never" else inferer.seed + number
        self.extra: tuple[Any, Any] = ((), {})
        self.meta, self.dtype, self.key = False, torch.float32, None
        self.began = time.perf_counter()

    def refuse(self, inputs: Tensor, args: Any, kwargs: Any, reason: str) -> Any:
        """Answer plainly, for a reason."""
        answer = self.inferer.plainly(inputs, self.network, args, kwargs)
        self.head = self._head(main_output(answer))
        self._note(inputs, reason, seconds_plain=time.perf_counter() - self.began)
        return answer

    def answer(self, inputs: Tensor, args: Any, kwargs: Any, shadow: Shadow | None) -> Any:
        """The adapted answer, or the plain one where adapting fails or is refused."""
        carried = shadow is not None
        plain, candidates = self._plain(inputs, args, kwargs)
        seconds_plain = time.perf_counter() - self.began
        try:
            with torch.inference_mode(False):
                shadow = shadow or self.method.begin(self.source, self.head)
                shadow.seed(self.seed)
                self.shadow = shadow
                if self.inferer.learn == "volume":
                    self._teach(candidates)
            adapted = self.inferer.plainly(inputs, Stand(self.network, self._adapted), args, kwargs)
            before, after = main_output(plain, self.key), main_output(adapted, self.key)
            reason = self._verdict(before, after)
        except Exception as failure:  # whatever a network or a method does, the plain answer is at hand
            _log.debug("adapting failed", exc_info=failure)
            adapted, reason = None, _why(failure)
        if reason is not None:
            if self.touched or not carried:
                self.shadow = None
            self._note(inputs, reason, seconds_plain=seconds_plain)
            return plain
        self._note(inputs, None, seconds_plain, self._changed(before, after))
        return adapted

    def _plain(self, inputs: Tensor, args: Any, kwargs: Any) -> tuple[Any, Candidates]:
        """The source's answer, looking out for windows to learn from on the way."""
        candidates = Candidates(self.inferer.budget, None)
        wanted = self.inferer.learn == "volume" and (self.method.learns or self.method.pools)

        def answer(windows: Tensor, more: tuple[Any, ...], named: dict[str, Any]) -> Any:
            try:
                # A copy: with one window per batch this is a view of the image, which is still to be answered again.
                outputs = self.network(windows.clone(), *more, **named)
            except RuntimeError as error:
                why = explain_channels(error, windows, self.source)
                if why is None:
                    raise
                raise ValueError(why) from error
            self.head = self._head(main_output(outputs))
            self.key = next(iter(outputs)) if isinstance(outputs, dict) else None
            main = main_output(outputs)
            self.extra, self.meta, self.dtype = (more, named), isinstance(main, MetaTensor), main.dtype
            if wanted:
                candidates.head = self.head
                logits = _clean(main).float()
                # A promptable network answers one window once for each prompt.
                each = logits.split(1) if len(logits) == len(windows) else [logits] * len(windows)
                for window, logit in zip(_clean(windows).split(1), each, strict=True):
                    candidates.offer(window, logit)
            return outputs

        return self.inferer.plainly(inputs, Stand(self.network, answer), args, kwargs), candidates

    def _teach(self, candidates: Candidates) -> None:
        """Learn from the chosen windows, all at once."""
        assert self.shadow is not None
        if not (self.method.learns or self.method.pools):
            return
        chosen = candidates.windows()
        if not chosen:
            raise CannotAdapt("no window can teach: each one is constant or holds NaN or infinity")
        if len({w.shape for w in chosen}) > 1:
            raise CannotAdapt("the inferer asks about windows of several sizes, which can't teach together; use learn='window'")
        self._learn(torch.cat(chosen))

    def _learn(self, windows: Tensor) -> None:
        """One call of `adapt`, in the precision of the weights, whatever the caller's switches are."""
        shadow = self.shadow
        assert shadow is not None
        if _own(*self.extra) and (len(windows) > 1 or self.inferer.learn == "volume"):
            raise CannotAdapt(
                "the network is given coordinates, clicks or a condition of each window's own, which can't be told apart while "
                "several windows teach at once; use learn='window' with sw_batch_size=1"
            )
        weights = next((p for p in shadow.module.parameters() if p.is_floating_point()), windows)
        windows = windows.to(device=weights.device, dtype=weights.dtype)
        shadow.extra, self.touched = self.extra, True
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(windows.device.type, enabled=False):
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
                    shadow = self.method.begin(self.source, self.head)
                    shadow.seed(self.seed)
                    self.shadow = shadow
                if self.method.learns and usable(clean := _clean(windows)):
                    self._learn(clean)
        assert self.shadow is not None
        self.shadow.extra = self.extra
        with torch.inference_mode(False), torch.no_grad(), _uncached(windows.device):
            return self._dressed(self._predicted(_clean(windows)), windows)

    def _predicted(self, windows: Tensor) -> Any:
        """The shadow's answer; where memory does not suffice for a batch of windows, in halves of it."""
        try:
            return self.method.predict(self.shadow, windows)
        except RuntimeError as error:
            if not short_of_memory(error) or len(windows) < 2 or _own(*self.extra):
                raise
        halves = [self._predicted(half) for half in windows.chunk(2)]
        return leafwise(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *halves)

    def _dressed(self, outputs: Any, windows: Tensor) -> Any:
        """The answer in the precision of the source's, and with the windows' meta data where that carries them."""
        outputs = outputs.to(self.dtype) if isinstance(outputs, Tensor) else outputs

        def dress(leaf: Any) -> Any:
            return MetaTensor(leaf).copy_meta_from(windows, copy_attr=False) if isinstance(leaf, Tensor) else leaf

        return leafwise(dress, outputs) if self.meta and isinstance(windows, MetaTensor) else outputs

    def _head(self, logits: Tensor) -> str:
        if self.inferer.head != "auto":
            return str(self.inferer.head)
        return "sigmoid" if logits.shape[1] == 1 else "softmax"

    def _verdict(self, plain: Tensor, adapted: Tensor) -> str | None:
        if self.inferer.learn == "window" and self.method.learns and not self.taught:
            return "no window can teach: each one is constant or holds NaN or infinity"
        reason = finite_answer(plain, adapted, self.head)
        if reason is not None or self.inferer.guard is None:
            return reason
        return self.inferer.guard(plain, adapted, self.head)

    def _changed(self, plain: Tensor, adapted: Tensor) -> float:
        """Share of voxels whose label is another."""
        return float((labels(plain, self.head) != labels(adapted, self.head)).any(1).float().mean())

    def _note(self, inputs: Tensor, reason: str | None, seconds_plain: float, changed: float = 0.0) -> None:
        shadow = self.shadow
        scale = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20 if resource else None
        case = Case(
            number=self.number,
            network=type(self.source or self.network).__name__,
            method=repr(self.method),
            head=self.head,
            learn=self.inferer.learn,
            reset=self.inferer.reset,
            seed=self.seed,
            shape=tuple(inputs.shape),
            budget=self.inferer.budget,
            taught=self.taught,
            moving=sum(t.numel() for t in shadow.moving) if shadow else 0,
            selected=shadow.selected if shadow else None,
            steps=tuple(self.steps),
            travelled=shadow.travelled if shadow else 0.0,
            changed=changed,
            seconds=time.perf_counter() - self.began,
            seconds_plain=seconds_plain,
            peak_memory=peak,
            reason=reason,
        )
        self.inferer.note(case)
