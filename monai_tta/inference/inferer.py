"""When to adapt, and whether to keep the answer: a MONAI inferer that adapts the network to the image it is asked about.

Every trap of MONAI and torch (docs/architecture.md) is handled in this package, so that no method has to know of it.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, PytorchPadMode
from torch import Tensor, nn

from monai_tta.compute.precision import Precision
from monai_tta.core.answer_form import AnswersAre
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.objectives import Head
from monai_tta.core.record import Case
from monai_tta.core.views import Views
from monai_tta.guards.collapse import Collapse
from monai_tta.inference.batches import batched, single_images
from monai_tta.inference.episode import Answered, answer_adapted, answer_unadapted, nothing_adapts
from monai_tta.inference.network import Network, check_input, fingerprint, seen_inside
from monai_tta.inference.news import news_of
from monai_tta.inference.request import Request, reader_for
from monai_tta.inference.settings import GuardLike, Settings
from monai_tta.inference.streams import Stream, lock, streams
from monai_tta.inference.uncertainty import can_make_maps
from monai_tta.methods import GraTa
from monai_tta.quality.predictor_files import as_quality_predictor
from monai_tta.quality.quality_predictor import QualityPredictor

__all__ = ["AdaptiveInferer"]


class AdaptiveInferer(SlidingWindowInferer):
    """Answer an image by sliding windows with a network that first adapts to it. The given network never changes.

    The first 15 arguments are `monai.inferers.SlidingWindowInferer`'s, in its order. The rest are keyword-only.

    Args:
        roi_size: the size of a window along each axis, in voxels; -1 for the whole image.
        sw_batch_size: how many windows the network gets at once.
        overlap: of neighbouring windows, as a share of their size, in [0, 1); one number or one for each axis.
        mode: how windows are weighted where they overlap, "constant" or "gaussian".
        sigma_scale: the standard deviation of "gaussian", as a share of the window's size.
        padding_mode: how an image smaller than a window is padded, as for `torch.nn.functional.pad`.
        cval: what "constant" padding puts there.
        sw_device: where windows are computed; None for where the image is.
        device: where the answer is put together; None for where the image is.
        progress: whether to show a bar.
        cache_roi_weight_map: whether to keep the weights of "gaussian" for images of one size.
        cpu_thresh: the number of voxels from which the answer is put together on the CPU; None for never.
        buffer_steps: how many steps along ``buffer_dim`` are collected before they go to ``device``; None for no buffer.
        buffer_dim: the axis along which windows are collected, 0 for the first spatial one; negative from the last.
        with_coord: whether the network also gets each window's place in the image.
        method: how to adapt; GraTa as published unless told otherwise.
        head: what the logits stand for, "softmax" or "sigmoid". "auto": one channel is "sigmoid", more are "softmax".
        learn: "volume" selects adaptation windows, learns from them once, then answers the whole image; "window" learns from each
            batch of windows right before answering it.
        reset: forget everything at each "volume" (episodic), at each "window", or "never" (continual).
        budget: how many windows of a volume to adapt on, at least 1; None for all; "auto" for as many as the method asks for: one
            to learn from, four to pool statistics over and for `Careful`.
        guard: a `monai_tta.guards.Guard`, such as ``VolumeChange(0.5)``, or a callable ``(unadapted, adapted, head) -> reason or
            None`` of logits ``(1, K, *spatial)``. A reason refuses the adapted answer. A callable costs an unadapted answer of
            the whole image.
        collapse: when a continual stream restarts (reset="never" only; see `Collapse`); None for never.
        seed: the only source of randomness.
        precision: "exact" computes in the network's own arithmetic; "fast" in bfloat16 where the machine multiplies that natively
            (a GPU without it: float16, for what takes no gradient). Elsewhere, or for a network with an operation that has no
            such form, both are the same and the record says "exact".
        recompute: adapt in less memory and more time, by gradient checkpointing.
        main_output: which of several outputs is adapted, the main one: a key of a dictionary, a field of a named tuple, a number.
            None: in a sequence the first output of the windows' size, else the first; in a dictionary the only entry, the
            only one with a usual name ("out", "logits", "pred" ...), or the only one of the windows' size.
        main_only: return the main output alone, in place of the network's container.
        answers: whether the main output holds "logits" or "probabilities". "auto": values in [0, 1] are probabilities where they
            sum to one over the channels, or where the network ends in a sigmoid or the like. The answer keeps the network's form.
        together: adapt one continual stream in all processes of `torch.distributed`. Each learns from a case of its own at the
            same time, gradients are averaged, and all take the same step. All must answer equally many cases.
        inferer: a MONAI inferer to put around, instead of sliding windows ourselves.
        quality: a `QualityPredictor` or its file, to have each answer's expected Dice on its record. It changes no answer.
        uncertainty: the `Views` over which to make a map of each answer's uncertainty, see ``uncertainty_maps``; None for no map.
            Name the mirrors that the network was trained with: in other poses it contradicts itself anywhere. The map changes no
            answer and costs all windows of the image once more, in each view and by each network that is mixed.
        records: a file to which each case's record is added as a line of JSON, without names or pixels.

    The records of the last 1,000 cases are in ``cases``, and the last call's maps in ``uncertainty_maps``: mutual information in
    nats ``(1, *spatial)``, or None where there is none. An image that cannot be adapted gets the unadapted answer, with the
    reason on its record and one warning.

    Raises:
        ValueError: for choices that exclude each other, or a quality predictor that cannot be read.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int = -1,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: BlendMode | str = BlendMode.CONSTANT,
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: PytorchPadMode | str = PytorchPadMode.CONSTANT,
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
        cache_roi_weight_map: bool = False,
        cpu_thresh: int | None = None,
        buffer_steps: int | None = None,
        buffer_dim: int = -1,
        with_coord: bool = False,
        *,
        method: AdaptationMethod | None = None,
        head: Head | Literal["auto"] = "auto",
        learn: Literal["window", "volume"] = "volume",
        reset: Literal["window", "volume", "never"] = "volume",
        budget: int | Literal["auto"] | None = "auto",
        collapse: Collapse | None = Collapse(),  # noqa: B008
        guard: GuardLike | None = None,
        seed: int = 0,
        precision: Precision = "exact",
        recompute: bool = False,
        together: bool = False,
        main_output: str | int | None = None,
        main_only: bool = False,
        answers: AnswersAre = "auto",
        inferer: Callable[..., Any] | None = None,
        quality: QualityPredictor | str | PathLike[str] | None = None,
        uncertainty: Views | None = None,
        records: str | PathLike[str] | None = None,
    ) -> None:
        monai_arguments: tuple[Any, ...] = (roi_size, sw_batch_size, overlap, mode, sigma_scale, padding_mode, cval, sw_device)
        monai_arguments += (device, progress, cache_roi_weight_map, cpu_thresh, buffer_steps, buffer_dim, with_coord)
        super().__init__(*monai_arguments)
        chosen: dict[str, Any] = dict(head=head, learn=learn, reset=reset, budget=budget, collapse=collapse, guard=guard)
        chosen |= dict(seed=seed, precision=precision, recompute=recompute, together=together, main_output=main_output)
        chosen |= dict(main_only=main_only, answers=answers, quality=as_quality_predictor(quality), uncertainty=uncertainty)
        self.settings = Settings(method=GraTa() if method is None else method, **chosen)
        self.inferer = inferer if uncertainty is None else can_make_maps(inferer)
        self.records = records
        self.cases: deque[Case] = deque(maxlen=1000)
        self.uncertainty_maps: tuple[Tensor | None, ...] = ()
        self._warned: set[str] = set()
        self._begun = 0

    def __call__(self, inputs: Tensor, network: Network, *args: Any, **kwargs: Any) -> Any:
        """Answer a batch of images ``(N, C, *spatial)``; each image is a case of its own.

        Args:
            inputs: floating-point images.
            network: the source network, or a callable around it; never changed.
            args: what else the network takes, as for MONAI's inferers.
            kwargs: what else the network takes.

        Returns:
            what the inner inferer would return for this network: the same container, shape, dtype, device and meta data.

        Raises:
            TypeError: for an integer image.
            ValueError: for a wrong number of dimensions or channels.
        """
        check_input(inputs, network, self.roi_size if self.inferer is None else None)
        found = []
        for image, own_args, own_kwargs in single_images(inputs, args, kwargs):
            found.append(self._answer_one(image, network, own_args, own_kwargs))
        self.uncertainty_maps = tuple(one.uncertainty_map for one in found)
        return batched([one.answer for one in found], inputs)

    def run_inner(self, inputs: Tensor, network: Network, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the inner inferer with ``network`` as it is.

        Args:
            inputs: images ``(N, C, *spatial)``.
            network: any network or callable.
            args: what else it takes.
            kwargs: what else it takes.
        """
        if self.inferer is None:
            return super().__call__(inputs, network, *args, **dict(kwargs))
        return self.inferer(inputs, network, *args, **dict(kwargs))

    def _answer_one(self, inputs: Tensor, network: Network, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answered:
        """Answer one image, and keep its record."""

        def ask(image: Tensor, asked: Network) -> Any:
            return self.run_inner(image, asked, args, kwargs)

        network, source, reason = seen_inside(network)
        is_monais = type(self.inferer) in (type(None), SlidingWindowInferer)
        buffered = bool(getattr(self if self.inferer is None else self.inferer, "buffer_steps", None))
        request = Request(
            image=inputs,
            network=network,
            source=source,
            ask=ask,
            only_calls=is_monais,
            # MONAI's stitcher gives the image's meta data to any answer; others may leave that to the network.
            restores_meta=is_monais or not isinstance(inputs, MetaTensor),
            number=self._next_number(),
            reader=reader_for(self.settings, network if source is None else source, buffered),
        )
        reason = reason if self.settings.method.adapts else nothing_adapts(self.settings.method)
        if reason is not None or source is None:
            answered = answer_unadapted(request, self.settings, reason)
        elif self.settings.continual:
            answered = self._answer_in_stream(request, source)
        else:
            answered = answer_adapted(request, self.settings, None)
        self._keep_record(answered.case)
        return answered

    def _answer_in_stream(self, request: Request, source: nn.Module) -> Answered:
        """Answer an image with what the stream has learnt so far. Calls take turns."""
        with lock:
            stream = streams.setdefault(self, Stream())
        with stream.turn:
            now = fingerprint(source)
            before, shadow = stream.shadows.pop(source, (None, None))
            answered = answer_adapted(request, self.settings, shadow if before == now else None)
            if answered.shadow is not None:
                stream.shadows[source] = (now, answered.shadow)
            return answered

    def _next_number(self) -> int:
        """The number of the next case."""
        with lock:
            self._begun += 1
            return self._begun - 1

    def _keep_record(self, case: Case) -> None:
        """Keep a record; warn once for each new kind of reason not to adapt."""
        self.cases.append(case)
        if self.records is not None:
            with lock, Path(self.records).open("a", encoding="utf-8") as file:
                file.write(case.to_json() + "\n")
        for kind, words in news_of(case, self.settings.method.adapts):
            if kind not in self._warned:
                self._warned.add(kind)
                warnings.warn(words, stacklevel=4)
