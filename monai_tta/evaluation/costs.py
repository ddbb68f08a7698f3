"""What adapting costs on this machine: seconds, memory and the share of what the arithmetic alone would take."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from monai_tta.compute.layer_mixins import FastKernels
from monai_tta.compute.memory import memory_rise
from monai_tta.compute.precision import native_half_dtype
from monai_tta.compute.window_batches import voxels_at_once
from monai_tta.core.method import AdaptationMethod
from monai_tta.inference.first_pass import detached_copy
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.inference.network import NetworkProxy
from monai_tta.inference.window_selection import ScoredWindow, WindowShortlist
from monai_tta.pipeline.bundle import BundleError, SourceBundle, load_bundle
from monai_tta.pipeline.output_head import head_of

EDITS = ("plain", "paper order", "exact", "fast")


@dataclass(frozen=True)
class Cost:
    """One way of answering: seconds of each repetition; peak memory in MiB above what network and image take themselves (on a
    CPU the resident size of a process of its own); operations in units of 1e9; what share of the seconds the operations would
    take at the machine's measured rate."""

    way: str
    seconds: tuple[float, ...]
    memory: float | None
    operations: float
    floor: float

    @property
    def typical(self) -> float:
        """The median of the seconds."""
        return median(self.seconds)


@dataclass(frozen=True)
class Profile:
    """What was measured, where: rates are in 1e9 operations per second, ``windows`` is how many an answer takes."""

    bundle: str
    method: str
    shape: tuple[int, ...]
    windows: int
    threads: int
    device: str
    rate: float
    rate_fast: float
    costs: tuple[Cost, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=1)


@dataclass
class CostJob:
    """A bundle, a method and an image to time them on; time does not depend on weights, so that None will do for a checkpoint."""

    root: Path
    method: AdaptationMethod
    size: tuple[int, ...] | None
    budget: int | Literal["auto"] | None = "auto"
    seed: int = 0
    checkpoint: str | None = "model.pt"

    def __post_init__(self) -> None:
        self.source: SourceBundle = load_bundle(self.root, self.checkpoint)
        first = next((m for m in self.source.network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
        if first is None:
            raise BundleError(f"{self.root}: the network has no 2D or 3D convolution, so an image for it can't be made up")
        generator = torch.Generator().manual_seed(self.seed)
        image = torch.rand(1, first.in_channels, *(self.size or self._usual(first.weight.ndim - 2)), generator=generator)
        self.image = image.to(self.source.device)
        self.head = head_of(self.source.transforms(self.root)[1])

    def _usual(self, dims: int) -> tuple[int, ...]:
        """One window in 2D, 64 windows at an overlap of a quarter in 3D."""
        roi = getattr(self.source.inferer, "roi_size", None)
        if roi is None:
            raise BundleError(f"{self.root}: the inferer tells no roi_size; give the image's size")
        roi = (roi,) * dims if isinstance(roi, int) else tuple(roi)
        return roi if dims == 2 else tuple(int(n * 3.25) for n in roi)

    def way(self, name: str) -> Callable[[], Any]:
        """A function that answers the image one way."""
        if name == "plain":
            return lambda: self.source.inferer(self.image, self.source.network)
        if name == "paper order":
            return self.in_paper_order
        choices: dict[str, Any] = {"head": self.head, "budget": self.budget, "precision": name, "seed": self.seed}
        inferer = AdaptiveInferer(method=self.method, inferer=self.source.inferer, **choices)
        return lambda: inferer(self.image, self.source.network)

    def in_paper_order(self) -> Any:
        """As the methods' papers do it: a copy of the whole network, a plain answer of every window, then learning in the
        default memory layout and full precision, then the adapted answer."""
        budget = AdaptiveInferer(method=self.method, budget=self.budget).budget
        network, fullest = copy.deepcopy(self.source.network), WindowShortlist(budget)

        def plainly(windows: Tensor, more: Any, named: Any) -> Any:
            for window in detached_copy(windows).split(1):
                fullest.offer(ScoredWindow(window, len(fullest.kept), float(window.std())))
            return network(windows, *more, **named)

        answer = self.source.inferer(self.image, NetworkProxy(network, plainly))
        if not self.method.adapts:
            return answer
        shadow = self.method.begin(network, self.head)
        shadow.layout = lambda windows: windows
        for layer in shadow.module.modules():
            if isinstance(layer, FastKernels):
                layer.use_fast = False
        teaching = torch.cat([c.window for c in fullest.kept])
        shadow.pool_statistics(teaching)
        if self.method.learns:
            with torch.enable_grad(), voxels_at_once(0):
                self.method.adapt(shadow, teaching, self.method.loss)
        return self.source.inferer(self.image, NetworkProxy(network, lambda w, more, named: self.method.predict(shadow, w)))


def profile(job: CostJob, repeats: int = 3) -> Iterator[Profile | str]:
    """Time all ways in turn, ``repeats`` times after a first round that isn't counted.

    Yields:
        what is being done, in words; last of all, the profile.
    """
    seconds: dict[str, list[float]] = {way: [] for way in EDITS}
    functions = {way: job.way(way) for way in EDITS}
    for turn in range(repeats + 1):
        yield f"round {turn} of {repeats}"
        for way, function in functions.items():
            taken = _timed(function, job.image.device)
            if turn:
                seconds[way].append(taken)
    yield "counting operations and memory"
    rates = {
        kind: matrix_rate(job.image.device, kind)
        for kind in (torch.float32, native_half_dtype(job.image.device) or torch.float32)
    }
    rate, fast = rates[torch.float32], list(rates.values())[-1]
    costs = []
    for way, function in functions.items():
        operations = _operations(function)
        floor = operations / (fast if way == "fast" else rate) / median(seconds[way])
        costs.append(Cost(way, tuple(seconds[way]), _memory(job, way), operations, floor))
    where = torch.cuda.get_device_name() if job.image.is_cuda else torch.backends.cpu.get_cpu_capability()
    told = (job.root.resolve().name, repr(job.method), tuple(job.image.shape), _count(job), torch.get_num_threads(), where)
    yield Profile(*told, rate, fast, tuple(costs))


def matrix_rate(device: torch.device, kind: torch.dtype) -> float:
    """The best of a product of two 2048 x 2048 matrices and a 3 x 3 convolution of 128 channels, in 1e9 operations per second."""
    a = torch.rand(2048, 2048, device=device, dtype=kind)
    x = torch.rand(1, 128, 96, 96, device=device, dtype=kind).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(128, 128, 3, 3, device=device, dtype=kind).contiguous(memory_format=torch.channels_last)
    product = min(_timed(lambda: a @ a, device) for _ in range(10))
    convolution = min(_timed(lambda: nn.functional.conv2d(x, weight, padding=1), device) for _ in range(20))
    return max(2 * 2048**3 / product, 2 * 128 * 128 * 9 * 96 * 96 / convolution) / 1e9


@torch.no_grad()
def _timed(function: Callable[[], Any], device: torch.device) -> float:
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _operations(function: Callable[[], Any]) -> float:
    """Multiplications and additions of convolutions and matrix products, in units of 1e9."""
    known = {torch.ops.aten.mkldnn_convolution: _of_convolution}
    with FlopCounterMode(display=False, custom_mapping=known) as counter, torch.no_grad():
        function()
    return counter.get_total_flops() / 1e9


def _of_convolution(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
    """Operations of a convolution that torch's counter does not know of, from shapes."""
    return int(conv_flop_count(x, weight, out_shape))


def _count(job: CostJob) -> int:
    """How many windows the inferer asks about."""
    asked = 0

    def answer(windows: Tensor, more: Any, named: Any) -> Any:
        nonlocal asked
        asked += len(windows)
        return job.source.network(windows, *more, **named)

    with torch.no_grad():
        job.source.inferer(job.image, NetworkProxy(job.source.network, answer))
    return asked


def _memory(job: CostJob, way: str) -> float | None:
    """Peak memory of one answer, in MiB."""
    if job.image.is_cuda:
        with memory_rise(job.image.device) as rise:
            _timed(job.way(way), job.image.device)
        return rise[0]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        given = (job.root, job.method, job.size, job.budget, job.seed, job.checkpoint)
        return pool.submit(_alone, given, way, torch.get_num_threads()).result()


def _alone(given: Any, way: str, threads: int) -> float | None:
    """In a process of its own: how far one answer raises the resident size."""
    torch.set_num_threads(threads)
    job = CostJob(*given)
    with memory_rise() as rise:
        _timed(job.way(way), job.image.device)
    return rise[0]
