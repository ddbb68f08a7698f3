"""What an inner inferer asks the source network about an image, and what the source's answers are like."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_tta.compute.containers import main_output, map_tensors
from monai_tta.compute.precision import Precision, at_least_float32, autocast_for
from monai_tta.core.shadow import in_fast_layout
from monai_tta.inference.network import NetworkProxy, explain_channels
from monai_tta.inference.window_selection import WindowSelector


def detached_copy(windows: Tensor) -> Tensor:
    """A private copy without meta data: the stitcher may write into what it handed over, and an inference tensor
    cannot take part in a gradient."""
    return (windows.as_tensor() if isinstance(windows, MetaTensor) else windows).detach().clone()


def has_per_window_inputs(more: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether the network is given something of each window's own: MONAI's coordinates, condition, or VISTA3D's clicks."""
    coordinates = any(isinstance(a, list) and a and all(isinstance(b, list | tuple) for b in a) for a in more)
    return coordinates or any(isinstance(named.get(key), Tensor) for key in ("condition", "point_coords"))


class StopScan(Exception):
    """Nothing more is to be learnt from asking."""


class SourceProxy:
    """Stands in the network's place while an inferer cuts an image into windows; the source answers.

    Args:
        network: what the inferer was given.
        source: the module inside, if it can be seen.
        head: "softmax", "sigmoid" or "auto".
    """

    def __init__(self, network: Any, source: Any, head: str) -> None:
        self.network, self.source, self.head = network, source, head
        self.extra: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.meta, self.dtype, self.key = False, torch.float32, None

    def answer(self, windows: Tensor, more: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Answer windows ``(N, C, *spatial)``."""
        self.extra = (more, named)
        try:
            # A copy: with one window per batch this is a view of the image, which is still to be answered again.
            outputs = self.network(windows.clone(), *more, **named)
        except RuntimeError as error:
            why = explain_channels(error, windows, self.source)
            if why is None:
                raise
            raise ValueError(why) from error
        main = main_output(outputs)
        if not isinstance(main, Tensor) or main.ndim < 2:
            kind = f"a tensor of shape {tuple(main.shape)}" if isinstance(main, Tensor) else repr(main)[:80]
            raise TypeError(f"{type(self.source or self.network).__name__} answered {kind}; logits (N, K, *spatial) are needed")
        self.note(outputs, next(iter(outputs)) if isinstance(outputs, dict) else None)
        return outputs

    def restore_format(self, outputs: Any, windows: Tensor) -> Any:
        """Another network's answer in the precision of the source's, and with the windows' meta data where that carries them."""
        if isinstance(outputs, dict):
            self.key = next(iter(outputs))
        outputs = outputs.to(self.dtype) if isinstance(outputs, Tensor) else map_tensors(self._wide, outputs)

        def dress(leaf: Any) -> Any:
            return MetaTensor(leaf).copy_meta_from(windows, copy_attr=False) if isinstance(leaf, Tensor) else leaf

        return map_tensors(dress, outputs) if self.meta and isinstance(windows, MetaTensor) else outputs

    def _wide(self, leaf: Any) -> Any:
        """A leaf in float32, where the source answers in it and fast arithmetic made it narrower."""
        return at_least_float32(leaf) if isinstance(leaf, Tensor) and self.dtype == torch.float32 else leaf

    def note(self, outputs: Any, key: Any = None) -> None:
        """Keep in mind what the source's answers are like; ``key`` is the main one's in a dictionary."""
        main = main_output(outputs, key)
        if self.head == "auto":
            self.head = "sigmoid" if main.shape[1] == 1 else "softmax"
        self.key = key
        self.meta, self.dtype = isinstance(main, MetaTensor), main.dtype


class WindowScan(SourceProxy):
    """A survey at the price of a few answers, or of none where all is known of them: the source answers the first windows of each
    shape, the rest get copies of that, which costs next to nothing and shows every window to ``see``.

    Args:
        precision: of what the source answers.
        see: called with each batch of windows.
        spatial: the image's shape; None if a window that covers it must be answered, too.
    """

    def __init__(
        self, *whose: Any, precision: Precision, see: Callable[[Tensor], None] | None, spatial: tuple[int, ...] | None
    ) -> None:
        super().__init__(*whose)
        self.precision, self.see, self.spatial = precision, see, spatial
        self._known: dict[Any, Any] = {}

    def answer(self, windows: Tensor, more: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Answer windows, or hand out a copy of what windows of this shape were answered.

        Raises:
            Enough: at the first window, where no answer is needed: all was seen, and all is known of the answers.
        """
        self.extra = (more, named)
        if self.see is not None:
            self.see(detached_copy(windows))
        if not self._known and self._suffices(windows):
            if self.see is None or (len(windows) == 1 and tuple(windows.shape[2:]) == self.spatial):
                raise StopScan
            return windows[:, :1]  # the other windows are still to be seen, but what is stitched of answers is not
        shapes = tuple(tuple(v.shape) for v in (windows, *more, *named.values()) if isinstance(v, Tensor))
        if shapes not in self._known:
            with torch.no_grad(), autocast_for(self.precision, windows):
                self._known[shapes] = super().answer(in_fast_layout(windows), more, named)
            self.dtype = torch.float32 if self.precision == "fast" and windows.dtype == torch.float32 else self.dtype
        return map_tensors(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, self._known[shapes])

    def _suffices(self, windows: Tensor) -> bool:
        """Whether nothing needs to be found out about the source's answers."""
        if self.spatial is None or self.head == "auto" or windows.dtype != torch.float32:
            return False
        return not torch.is_autocast_enabled(windows.device.type)  # answers may be of another type

    def choose(self, teachers: WindowSelector) -> list[Tensor]:
        """The windows that teach, of those that were seen; nothing else may belong to windows that are asked about together."""
        return teachers.chosen(self.logits, self.head, free=not any(self.extra))

    def logits(self, windows: Tensor) -> Tensor:
        """The source's main output for windows."""
        more, named = self.extra
        with autocast_for(self.precision, windows):
            return detached_copy(main_output(self.network(in_fast_layout(windows), *more, **named))).float()


def scan_windows(episode: Any, inputs: Tensor, args: Any, kwargs: Any, see: Callable[[Tensor], None] | None) -> WindowScan:
    """Let an episode's inferer cut its image into windows, show them to ``see``, and find out what the source's answers are
    like."""
    inferer = episode.inferer
    # MONAI's stitcher gives the image's meta data to whatever comes; others may leave that to the network.
    simple = type(inferer.inferer) in (type(None), SlidingWindowInferer) or not isinstance(inputs, MetaTensor)
    spatial = tuple(inputs.shape[2:]) if simple else None
    look = WindowScan(episode.network, episode.source, inferer.head, precision=episode.precision, see=see, spatial=spatial)
    with suppress(StopScan):
        inferer.plainly(inputs, NetworkProxy(episode.network, look.answer), args, kwargs)
    return look
