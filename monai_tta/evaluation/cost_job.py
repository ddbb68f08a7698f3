"""What is timed: a method on a bundle's network and an image of noise, in four ways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_tta.compute.containers import main_output
from monai_tta.compute.layer_mixins import FastKernels
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.objectives import head_of_channels
from monai_tta.inference.first_pass import detached_copy
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.inference.network_proxy import NetworkProxy
from monai_tta.inference.window_selection import ScoredWindow, WindowShortlist
from monai_tta.pipeline.bundle import BundleError, SourceBundle, load_bundle
from monai_tta.pipeline.bundle_config import NO_CHANGES
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.source_files import weights_file

WAYS = ("unadapted", "paper order", "exact", "fast")


@dataclass
class CostJob:
    """A bundle, a method, and an image of noise to time them on.

    Args:
        root: the bundle's folder.
        method: how to adapt.
        size: of the image; None for one window in 2D, and 64 windows at an overlap of a quarter in 3D.
        budget: how many windows the method adapts on, as for `AdaptiveInferer`.
        seed: of the image and of the method.
        checkpoint: None takes the network as it is built. Time does not depend on weights.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        changes: what is laid over the bundle's config.

    Raises:
        BundleError: where no image can be made up for the network.
    """

    root: Path
    method: AdaptationMethod
    size: tuple[int, ...] | None
    budget: int | Literal["auto"] | None = "auto"
    seed: int = 0
    checkpoint: str | None = "model.pt"
    device: str | None = None
    changes: ConfigChanges = NO_CHANGES

    def __post_init__(self) -> None:
        self.source: SourceBundle = load_bundle(self.root, self.checkpoint, self.device, self.changes)
        if self.checkpoint is not None:
            self.method = self.method.for_checkpoint(weights_file(self.root, self.checkpoint))
        convolutions = [m for m in self.source.network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
        if not convolutions:
            raise BundleError(f"{self.root}: the network has no 2D or 3D convolution, so an image for it cannot be made up")
        dims = convolutions[0].weight.ndim - 2
        size = self.size or self._usual_size(dims)
        if len(size) != dims:
            given = ",".join(map(str, size))
            raise BundleError(f"{self.root}: the network takes images with {dims} axes, found {len(size)} in the size {given}")
        generator = torch.Generator().manual_seed(self.seed)
        image = torch.rand(1, convolutions[0].in_channels, *size, generator=generator)
        self.image = image.to(self.source.device)
        self.head = head_of(self.source.transforms(self.root)[1])

    def _usual_size(self, dims: int) -> tuple[int, ...]:
        roi = getattr(self.source.inferer, "roi_size", None)
        if roi is None:
            raise BundleError(f"{self.root}: the inferer has no roi_size; give the image's size")
        window = (roi,) * dims if isinstance(roi, int) else tuple(roi)
        return window if dims == 2 else tuple(int(n * 3.25) for n in window)

    def segment_by(self, way: str) -> Callable[[], Any]:
        """A function that segments the image in one of the `WAYS`."""
        if way == "unadapted":
            return lambda: self.source.inferer(self.image, self.source.network)
        if way == "paper order":
            return self.in_paper_order
        options: dict[str, Any] = {"head": self.head, "budget": self.budget, "precision": way, "seed": self.seed}
        inferer = AdaptiveInferer(method=self.method, inferer=self.source.inferer, **options)
        return lambda: inferer(self.image, self.source.network)

    def in_paper_order(self) -> Any:
        """Segment the image step by step as the methods' papers do it.

        Copy the whole network, segment every window unadapted, adapt in full precision and torch's default memory layout, one
        window after the other, then segment every window adapted.
        """
        budget = AdaptiveInferer(method=self.method, budget=self.budget).settings.n_adaptation_windows
        network = copy.deepcopy(self.source.network)
        shortlist = WindowShortlist(budget)

        def answer_unadapted(windows: Tensor, args: Any, kwargs: Any) -> Any:
            for window in detached_copy(windows).split(1):
                shortlist.offer(ScoredWindow(window, len(shortlist.kept), float(window.std())))
            return network(windows, *args, **kwargs)

        answer = self.source.inferer(self.image, NetworkProxy(network, answer_unadapted))
        if not self.method.adapts:
            return answer
        channels = main_output(answer).shape[1]
        head = head_of_channels(channels) if self.head == "auto" else self.head
        shadow = self.method.begin(network, head)
        shadow.layout = lambda windows: windows
        for layer in shadow.module.modules():
            if isinstance(layer, FastKernels):
                layer.use_fast = False
        adaptation_windows = torch.cat([c.window for c in shortlist.kept])
        shadow.pool_statistics(adaptation_windows)
        if self.method.learns:
            shadow.voxels_at_once = 0  # one window after the other
            with torch.enable_grad():
                self.method.adapt(shadow, adaptation_windows, self.method.loss)

        def answer_adapted(windows: Tensor, args: Any, kwargs: Any) -> Any:
            return self.method.predict(shadow, windows)

        return self.source.inferer(self.image, NetworkProxy(network, answer_adapted))
