"""When, and whether to keep it: an inferer that adapts the network to the image it is asked about.

Every trap of MONAI and torch (docs/architecture.md) is handled here, so that no method has to know of it.
"""

from __future__ import annotations

import re
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_tta.compute.containers import map_tensors
from monai_tta.compute.precision import Precision
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import Case
from monai_tta.core.shadow import CannotAdapt, in_eval_mode
from monai_tta.guards.base import Guard, as_guard
from monai_tta.guards.collapse import Collapse
from monai_tta.inference.episode import Episode
from monai_tta.inference.network import check_input, fingerprint, unwrap
from monai_tta.methods import GraTa

__all__ = ["AdaptiveInferer"]

_streams: weakref.WeakKeyDictionary[Any, Stream] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Stream:
    """What a continual inferer carries from case to case: one shadow per network, and a lock so that calls take turns."""

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self.shadows: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


class AdaptiveInferer(SlidingWindowInferer):
    """Answer an image by sliding windows with a network that first adapts to it; the given network never changes.

    The first 15 arguments are `monai.inferers.SlidingWindowInferer`'s, in its order; ``roi_size`` defaults to the whole
    image. The rest are keyword-only.

    Args:
        method: how to adapt; GraTa as published unless told otherwise.
        head: what the logits stand for. "auto": one channel is "sigmoid", more are "softmax".
        learn: "volume" chooses ``budget`` teaching windows, learns once, then answers the whole image; "window" learns
            from each batch of windows right before answering it.
        reset: forget everything at each "volume" (episodic), at each "window", or "never" (continual).
        budget: how many windows of a volume teach; None for all, "auto" as many as the method asks for: one to learn from, four
            to pool statistics over and for `Careful`.
        guard: a `monai_tta.guards.Guard`, such as ``VolumeChange(0.5)``, or a callable ``(plain, adapted, head) -> reason or
            None``; a reason refuses the adapted answer. A callable costs a plain answer of the whole image.
        collapse: when a continual stream is begun anew (reset="never" only; see `Collapse`); None for never.
        seed: the only source of randomness.
        precision: "exact" answers and learns in the network's own arithmetic; "fast" in bfloat16 where the machine
            multiplies that natively (a GPU without it: float16, for what takes no gradient); elsewhere, or for a network with
            an operation that has no such form, the two are one, and the record says "exact".
        recompute: learn in less memory and more time, by gradient checkpointing.
        together: learn one continual stream in all processes of `torch.distributed`: each learns from a case of its own at the
            same time, gradients are averaged, all take the same step. All must answer equally many cases.
        inferer: a MONAI inferer to put around instead of sliding windows by itself.
        records: a file to which each case's record is added as a line of JSON, without names or pixels.

    Records of what happened are in ``cases`` (the last 1,000), too. An image that cannot be adapted is answered plainly, with
    the reason on its record and one warning.

    Raises:
        ValueError: for choices that exclude each other.
    """

    def __init__(
        self,
        roi_size: Any = -1,
        sw_batch_size: int = 1,
        overlap: Any = 0.25,
        mode: Any = "constant",
        sigma_scale: Any = 0.125,
        padding_mode: Any = "constant",
        cval: float = 0.0,
        sw_device: Any = None,
        device: Any = None,
        progress: bool = False,
        cache_roi_weight_map: bool = False,
        cpu_thresh: int | None = None,
        buffer_steps: int | None = None,
        buffer_dim: int = -1,
        with_coord: bool = False,
        *,
        method: AdaptationMethod | None = None,
        head: Literal["softmax", "sigmoid", "auto"] = "auto",
        learn: Literal["window", "volume"] = "volume",
        reset: Literal["window", "volume", "never"] = "volume",
        budget: int | Literal["auto"] | None = "auto",
        collapse: Collapse | None = Collapse(),  # noqa: B008
        guard: Guard | Callable[[Tensor, Tensor, str], str | None] | None = None,
        seed: int = 0,
        precision: Precision = "exact",
        recompute: bool = False,
        together: bool = False,
        inferer: Any = None,
        records: str | PathLike[str] | None = None,
    ) -> None:
        monais: tuple[Any, ...] = (roi_size, sw_batch_size, overlap, mode, sigma_scale, padding_mode, cval, sw_device)
        monais += (device, progress, cache_roi_weight_map, cpu_thresh, buffer_steps, buffer_dim, with_coord)
        super().__init__(*monais)
        self.method = GraTa() if method is None else method
        self.head, self.learn, self.reset = head, learn, reset
        self.budget = self.method.teachers if budget == "auto" and isinstance(self.method, AdaptationMethod) else budget
        self.guard, self.collapse, self.seed, self.inferer = guard, collapse, seed, inferer
        self.precision: Precision = precision
        self.recompute, self.together = recompute, together
        self.records = records
        self.cases: deque[Case] = deque(maxlen=1000)
        self._warned: set[str] = set()
        self._begun = 0
        self._check()

    def _check(self) -> None:
        for name, value, allowed in (
            ("head", self.head, ("softmax", "sigmoid", "auto")),
            ("learn", self.learn, ("window", "volume")),
            ("reset", self.reset, ("window", "volume", "never")),
            ("precision", self.precision, ("exact", "fast")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, found {value!r}")
        if not isinstance(self.method, AdaptationMethod):
            raise ValueError(f"method must be a monai_tta method (AdaptationMethod), found {self.method!r}")
        if self.learn == "volume" and self.reset == "window":
            raise ValueError("learn='volume' learns once for all windows, so reset='window' has no meaning; use learn='window'")
        if self.together and (self.learn, self.reset) != ("volume", "never"):
            raise ValueError("together=True is one continual stream in several processes; it needs learn='volume', reset='never'")
        if self.learn == "window" and self.method.pools_statistics:
            raise ValueError("statistics='volume' pools over a volume's teaching windows; use learn='volume'")
        if self.budget is not None and (not isinstance(self.budget, int) or self.budget < 1):
            raise ValueError(f"budget is a number of windows, at least 1, None for all, or 'auto'; found {self.budget!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed is a whole number, found {self.seed!r}")
        if self.guard is not None:
            as_guard(self.guard)
        if not isinstance(self.collapse, Collapse | None):
            raise ValueError(f"collapse is a monai_tta.guards.collapse.Collapse or None, found {self.collapse!r}")

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer a batch of images ``(N, C, *spatial)``; each image is a case of its own.

        Returns:
            what the plain inferer would return for this network: the same container, shape, dtype, device and meta.

        Raises:
            TypeError: for an integer image.
            ValueError: for a wrong number of dimensions or channels.
        """
        check_input(inputs, network, self.roi_size if self.inferer is None else None)
        if len(inputs) < 2:
            return self._one(inputs, network, args, kwargs)
        answers, n = [], len(inputs)
        for i in range(n):
            own = tuple(_of_one(value, i, n) for value in args)
            named = {key: _of_one(value, i, n) for key, value in kwargs.items()}
            answers.append(self._one(inputs[i : i + 1], network, own, named))
        return _together(answers, inputs)

    def plainly(self, inputs: Tensor, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the inner inferer with ``network`` as it is."""
        if self.inferer is None:
            return super().__call__(inputs, network, *args, **dict(kwargs))
        return self.inferer(inputs, network, *args, **dict(kwargs))

    def _one(self, inputs: Tensor, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One image: as a turn of the stream when continual, by itself otherwise."""
        try:
            source = unwrap(network)
            quiet = in_eval_mode(source)
            network = network if quiet is source else quiet
        except CannotAdapt as reason:
            return Episode(self, network, None, self._next()).plain(inputs, args, kwargs, str(reason))
        if not self.method.adapts:
            return Episode(self, network, source, self._next()).plain(inputs, args, kwargs)
        if self.reset != "never":
            return Episode(self, network, source, self._next()).answer(inputs, args, kwargs, None)
        with _lock:
            stream = _streams.setdefault(self, Stream())
        with stream.turn:
            now = fingerprint(source)
            before, shadow = stream.shadows.pop(source, (None, None))
            episode = Episode(self, network, source, self._next())
            answer = episode.answer(inputs, args, kwargs, shadow if before == now else None)
            if episode.shadow is not None:
                stream.shadows[source] = (now, episode.shadow)
            return answer

    def _next(self) -> int:
        """The number of the next case."""
        with _lock:
            self._begun += 1
            return self._begun - 1

    def note(self, case: Case) -> None:
        """Keep a record; warn once for each new reason not to adapt."""
        self.cases.append(case)
        if self.records is not None:
            with _lock, Path(self.records).open("a") as file:
                file.write(case.to_json() + "\n")
        for what, why in (("answered without adaptation", case.reason), ("the stream was begun anew", case.restarted)):
            kind = f"{what}: " + re.sub(r"\d[\d.,%]*", "#", why or "")  # with other figures it is no new reason
            if why is not None and kind not in self._warned:
                self._warned.add(kind)
                warnings.warn(f"{what}: {why}", stacklevel=4)


def _of_one(value: Any, i: int, n: int) -> Any:
    """What belongs to image ``i`` of ``n``: a tensor with an entry for each image is split like the images."""
    return value[i : i + 1] if isinstance(value, Tensor) and value.ndim and len(value) == n else value


def _joined(*leaves: Any) -> Any:
    """Single images' leaves in one batch; a scalar (a loss in a network's answer) becomes its mean, anything else is the
    first image's."""
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        return leaves[0]
    plain = [leaf.as_tensor() if isinstance(leaf, MetaTensor) else leaf for leaf in leaves]
    return torch.cat(plain) if plain[0].ndim else torch.stack(plain).mean(0)


def _together(answers: list[Any], inputs: Tensor) -> Any:
    """Put single images' answers back into one batch, container by container."""

    def join(*leaves: Any) -> Any:
        joined = _joined(*leaves)
        return MetaTensor(joined).copy_meta_from(inputs, copy_attr=False) if isinstance(leaves[0], MetaTensor) else joined

    return map_tensors(join, *answers)
