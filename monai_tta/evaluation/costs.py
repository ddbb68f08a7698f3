"""What adapting costs on this machine: seconds, memory, and how near it comes to the time that its arithmetic takes at best."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from monai_tta.compute.memory import memory_rise
from monai_tta.compute.precision import native_half_dtype
from monai_tta.evaluation.cost_job import WAYS, CostJob
from monai_tta.inference.network_proxy import NetworkProxy


@dataclass(frozen=True)
class Cost:
    """What one way to segment an image costs.

    Args:
        way: which of `WAYS`.
        seconds: of each repetition.
        memory: peak memory in MiB above what network and image take themselves; on a CPU the rise of the resident size of a
            process of its own. None where the system does not tell.
        operations: in units of 1e9.
        matrix_rate_share: the time that the operations would take at the machine's matrix rate, as a share of the time they took.
    """

    way: str
    seconds: tuple[float, ...]
    memory: float | None
    operations: float
    matrix_rate_share: float

    @property
    def typical(self) -> float:
        """The median of the seconds."""
        return median(self.seconds)


@dataclass(frozen=True)
class Profile:
    """What was measured, and where.

    Args:
        bundle: its name.
        method: as records call it.
        shape: of the image, ``(1, C, *spatial)``.
        windows: how many windows the inferer cuts the image into.
        threads: of torch.
        device: name of the GPU, or the CPU's capability.
        rate: the matrix rate in float32, in 1e9 operations per second.
        rate_fast: the same in the type of fast arithmetic.
        costs: of each way.
    """

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


def profile(job: CostJob, repeats: int = 3) -> Iterator[Profile | str]:
    """Time all ways in turn, ``repeats`` times after a first round that does not count.

    Args:
        job: what to time.
        repeats: how often each way is timed, 1 or more.

    Yields:
        at each step, what is done next; at last the profile.
    """
    device = job.image.device
    functions = {way: job.segment_by(way) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repetition in range(repeats + 1):
        yield f"round {repetition} of {repeats}"
        for way, function in functions.items():
            taken = _timed(function, device)
            if repetition:
                seconds[way].append(taken)
    yield "counting operations and memory"
    rate = matrix_rate(device, torch.float32)
    half = native_half_dtype(device)
    rate_fast = rate if half is None else matrix_rate(device, half)
    costs = []
    for way, function in functions.items():
        operations = _operations(function)
        share = operations / (rate_fast if way == "fast" else rate) / median(seconds[way])
        costs.append(Cost(way, tuple(seconds[way]), _memory(job, way), operations, share))
    yield Profile(
        bundle=job.root.resolve().name,
        method=job.method.record_name,
        shape=tuple(job.image.shape),
        windows=_count_windows(job),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if job.image.is_cuda else torch.backends.cpu.get_cpu_capability(),
        rate=rate,
        rate_fast=rate_fast,
        costs=tuple(costs),
    )


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The better rate of a product of two 2048 x 2048 matrices and a 3 x 3 convolution of 128 channels.

    Returns:
        1e9 operations per second.
    """
    matrix = torch.rand(2048, 2048, device=device, dtype=dtype)
    image = torch.rand(1, 128, 96, 96, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(128, 128, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    product = min(_timed(lambda: matrix @ matrix, device) for _ in range(10))
    convolution = min(_timed(lambda: nn.functional.conv2d(image, weight, padding=1), device) for _ in range(20))
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
    unknown_to_torch = {torch.ops.aten.mkldnn_convolution: _convolution_operations}
    with FlopCounterMode(display=False, custom_mapping=unknown_to_torch) as counter, torch.no_grad():
        function()
    return counter.get_total_flops() / 1e9


def _convolution_operations(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
    """Operations of a convolution, from shapes."""
    return int(conv_flop_count(x, weight, out_shape))


def _count_windows(job: CostJob) -> int:
    """How many windows the inferer cuts the image into. Mirrored copies of a window are no windows."""
    count = 0

    def answer(windows: Tensor, args: Any, kwargs: Any) -> Any:
        nonlocal count
        count += len(windows)
        return job.source.network(windows, *args, **kwargs)

    with torch.no_grad():
        job.source.inferer(job.image, NetworkProxy(job.source.network, answer, only_looks_at_windows=True))
    return count


def _memory(job: CostJob, way: str) -> float | None:
    """Peak memory of segmenting the image once, in MiB."""
    if job.image.is_cuda:
        with memory_rise(job.image.device) as rise:
            _timed(job.segment_by(way), job.image.device)
        return rise[0]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        fields = (job.root, job.method, job.size, job.budget, job.seed, job.checkpoint, job.device, job.changes)
        return pool.submit(_memory_of_process, fields, way, torch.get_num_threads()).result()


def _memory_of_process(fields: tuple[Any, ...], way: str, threads: int) -> float | None:
    """In a process of its own: how far segmenting the image once raises the resident size."""
    torch.set_num_threads(threads)
    job = CostJob(*fields)
    with memory_rise() as rise:
        _timed(job.segment_by(way), job.image.device)
    return rise[0]
