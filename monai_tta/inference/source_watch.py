"""Notice where layers of the source itself run while an adapted copy should answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from monai_tta.core.normalization import AdaptiveNorm

Place = Literal["inferer", "adapting", "shadow"]


class SourceWatch:
    """Watches which layers run in this thread: the source's own, and those that use present statistics.

    Hooks of torch's own for all modules tell it, because the source must get none. They are there inside `watching` alone.

    Args:
        networks: the source, and the copy of it in eval mode where it is in training mode.

    Attributes:
        in_inferer: whether a layer of the source ran in the inferer's own code.
        in_shadow: whether one ran inside the shadow's forward pass: a closure over layers of the source.
        shows_change: whether a layer that uses present statistics ran inside the shadow.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._layers = {id(module): module for network in networks for module in network.modules()}  # kept, so ids stay theirs
        self._thread = threading.get_ident()
        self._place: Place = "inferer"
        self.in_inferer = False
        self.in_shadow = False
        self.shows_change = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A ``with`` block in which the inner inferer runs."""
        self._thread = threading.get_ident()
        handle = register_module_forward_pre_hook(self._see)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """A ``with`` block that is no part of the inferer's own code.

        Args:
            place: "shadow" for the forward pass of the adapted copy, "adapting" for what else is ours.
        """
        before = self._place
        self._place = place
        try:
            yield
        finally:
            self._place = before

    def _see(self, module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        if id(module) in self._layers:
            self.in_inferer = self.in_inferer or self._place == "inferer"
            self.in_shadow = self.in_shadow or self._place == "shadow"
        elif self._place == "shadow" and isinstance(module, AdaptiveNorm) and _uses_present_statistics(module):
            self.shows_change = True


def _uses_present_statistics(layer: AdaptiveNorm) -> bool:
    """Whether a layer uses statistics of the present image where the source uses its running ones."""
    if not layer.has_running_stats or layer.blend == 0:
        return False
    return layer.statistics == "window" or (layer.statistics == "volume" and any(layer.pooled))
