"""One attempt to adapt to one image: learn from windows and answer them, with one shadow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.checkpointing import is_out_of_memory
from monai_tta.compute.containers import map_tensors
from monai_tta.compute.precision import Precision, without_weight_cache
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.window_inputs import has_per_window_inputs
from monai_tta.inference.first_pass import Extra, WindowScan, detached_copy
from monai_tta.inference.prompt_arguments import without_idle_places
from monai_tta.inference.request import Request
from monai_tta.inference.settings import Settings
from monai_tta.inference.source_watch import SourceWatch
from monai_tta.inference.window_selection import can_adapt_from

NOTHING_USABLE = "no window can be adapted on: each one is constant or holds NaN or infinity"


class Adapter:
    """Learns from an image's windows and answers them.

    Args:
        request: the image.
        settings: how to adapt.
        precision: in which the shadow computes.
        seed: of the shadow's random draws.
        scan: what the first pass found.
        shadow: of the continual stream; None for a fresh one.
    """

    def __init__(
        self, request: Request, settings: Settings, precision: Precision, seed: int, scan: WindowScan, shadow: Shadow | None
    ) -> None:
        self.request = request
        self.settings = settings
        self.method = settings.method
        self.precision = precision
        self.seed = seed
        self.scan = scan
        self.steps: list[Step] = []
        self.n_windows = 0
        self.windows: Tensor | None = None  # those of the volume, where it was learnt from at once
        self.extra: Extra = scan.extra
        self.has_learnt = False
        self.shadow = self._prepared(shadow or self._fresh_shadow())
        self.watch = SourceWatch(*(n for n in (request.source, request.network) if isinstance(n, nn.Module)))
        # Windows, what came with them, and their answer, where that may be the source's.
        self.doubtful: tuple[Tensor, Extra, Tensor] | None = None

    def _fresh_shadow(self) -> Shadow:
        if self.request.source is None:
            raise CannotAdapt("the network's layers cannot be seen")
        with torch.inference_mode(False):
            return self.method.begin(self.request.source, self.scan.resolved_head)

    def _prepared(self, shadow: Shadow) -> Shadow:
        """A shadow with everything that this attempt decides about how it runs."""
        with torch.inference_mode(False):
            shadow.seed(self.seed)
            shadow.precision = self.precision
            shadow.reader = self.request.reader
            shadow.over_processes = self.settings.together
            if self.settings.recompute:
                shadow.recompute()
        return shadow

    def learn(self, windows: Tensor) -> None:
        """One call of the method's `adapt`, in the dtype of the weights, whatever the caller's switches are.

        Raises:
            CannotAdapt: when the network is given something that belongs to single windows, and several are learnt from at once.
        """
        if isinstance(self.extra[1].get("point_coords"), Tensor):
            raise CannotAdapt(
                "the network is given clicks, which have their places in the image, while windows are adapted on by themselves; "
                "ask it by classes, or let it click for itself (SelfPrompting)"
            )
        if has_per_window_inputs(*self.extra) and (len(windows) > 1 or self.settings.learn == "volume"):
            raise CannotAdapt(
                "the network is given coordinates or a condition of each window's own, which can't be told apart while "
                "several windows are adapted on at once; use learn='window' with sw_batch_size=1"
            )
        shadow = self.shadow
        weights = next((p for p in shadow.module.parameters() if p.is_floating_point()), windows)
        windows = windows.to(device=weights.device, dtype=weights.dtype)
        shadow.extra = self.extra
        self.has_learnt = True  # from here on the shadow is no longer as it was
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(windows.device.type, enabled=False):
            windows = windows.clone() if windows.is_inference() else windows  # or no gradient could pass by them
            shadow.pool_statistics(windows)
            if self.method.learns:
                self.steps += self.method.adapt(shadow, windows, self.method.loss)
        self.n_windows += len(windows)
        if self.settings.learn == "volume":
            self.windows = windows

    def answer_image(self) -> Any:
        """The inner inferer's answer, with each window answered by the shadow."""
        with self.watch.watching():
            return self.request.answer_by(self._answer_watched)

    def _answer_watched(self, windows: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.watch.at("adapting"):
            return self.answer(windows, args, kwargs)

    def answer(self, windows: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer windows ``(N, C, *spatial)``, in the network's place; learn from them first when learning window by window."""
        self.extra = without_idle_places(self.request.source, args, kwargs)
        if self.settings.learn == "window":
            self._learn_in_passing(windows)
        self.shadow.extra = self.extra
        with torch.inference_mode(False), torch.no_grad(), without_weight_cache(windows.device):
            outputs = self._predict(detached_copy(windows))
            self._note_doubt(windows, outputs)
            return self.scan.restore_format(outputs, windows)

    @property
    def shows_change(self) -> bool:
        """Whether something shows that answers differ from the source's, so that they need not be compared."""
        return self.watch.shows_change or self.shadow.weight_distance > 0 or not self.method.answers_by_the_network

    def _note_doubt(self, windows: Tensor, outputs: Any) -> None:
        """Keep the first windows, and what they were answered, where nothing shows that the source answers otherwise."""
        if self.doubtful is None and not self.shows_change:
            self.doubtful = (
                detached_copy(windows),
                self.extra,
                detached_copy(self.request.reader.logits(outputs, self.scan.resolved_head)),
            )

    def _learn_in_passing(self, windows: Tensor) -> None:
        if self.settings.reset == "window":
            if len(windows) > 1:
                raise CannotAdapt("reset='window' needs sw_batch_size=1: windows of a batch share one shadow")
            self.shadow = self._prepared(self._fresh_shadow())
        with torch.inference_mode(False):
            if self.method.learns and can_adapt_from(own := detached_copy(windows)):
                self.learn(own)

    def _predict(self, windows: Tensor) -> Any:
        """The shadow's answer; where memory does not suffice for a batch of windows, half of them at a time."""
        try:
            with self.watch.at("shadow"):
                return self.method.predict(self.shadow, windows)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(windows) < 2 or has_per_window_inputs(*self.extra):
                raise
        halves = [self._predict(half) for half in windows.chunk(2)]
        return map_tensors(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *halves)
