"""What adapting a network of nnU-Net's usual size costs, for docs/performance.md: `python -m docs.large_network`.

The network is MONAI's DynUNet as nnU-Net plans it for windows of 128 x 128 x 128: six stages, 32 to 320 channels, InstanceNorm
with weights, 31 million parameters; without deep supervision. It is not trained: time and memory do not depend on weights. The
image is noise. Each way runs once, in a process of its own, and is compared with the plain answer, and with one training step on
one window. With --mirrors each window is answered mirrored, too: along so many axes and in all combinations, as by nnU-Net.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from monai_tta import AdaptiveInferer, GraTa, Tent
from monai_tta.compute.memory import memory_rise
from monai_tta.inference.network_proxy import only_looks_at_windows

WAYS = ("training step", "plain", "TENT, exact", "GraTa, exact", "GraTa, fast", "GraTa, exact, recompute")


def network() -> nn.Module:
    """The network, in eval mode."""
    strides = [1, 2, 2, 2, 2, 2]
    torch.manual_seed(0)
    built: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        kernel_size=[3] * 6,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[32, 64, 128, 256, 320, 320],
        norm_name=("INSTANCE", {"affine": True}),
        deep_supervision=False,
    )
    return built.eval()


def train_one_step(window: Tensor) -> None:
    """One step of stochastic gradient descent with momentum on one window, as nnU-Net trains, in float32."""
    trained = network().train()
    optimizer = torch.optim.SGD(trained.parameters(), 0.01, momentum=0.99, nesterov=True)
    label = torch.randint(3, (1, 1, *window.shape[2:]))
    with torch.enable_grad():
        DiceCELoss(softmax=True, to_onehot_y=True)(trained(window), label).backward()
    optimizer.step()


class MirroredWindows:
    """Sliding windows whose answers are means over mirrored copies, as nnU-Net's are.

    Args:
        windows: the sliding windows.
        mirrors: along how many axes windows are mirrored, from the first on.
    """

    def __init__(self, windows: SlidingWindowInferer, mirrors: int) -> None:
        self.windows = windows
        self.roi_size = windows.roi_size
        axes = range(2, 2 + mirrors)
        self.flips = [some for count in range(mirrors + 1) for some in combinations(axes, count)]

    def __call__(self, inputs: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Answer an image ``(N, C, *spatial)``."""
        # While windows are looked at, mirrored copies would count as further windows.
        flips = [()] if only_looks_at_windows(network) else self.flips

        def mean(patches: Tensor) -> Tensor:
            answer: Tensor = sum(network(patches.flip(flip)).flip(flip) for flip in flips) / len(flips)
            return answer

        answer: Tensor = self.windows(inputs, mean)
        return answer


def prepare(way: str, window: int, size: int, mirrors: int) -> Callable[[], Any]:
    """What is measured, with the network and the image made beforehand."""
    if way == "training step":
        patch = torch.rand(1, 1, window, window, window)
        return lambda: train_one_step(patch)
    image = torch.rand(1, 1, size, size, size)
    source = network()
    plain = MirroredWindows(SlidingWindowInferer((window,) * 3, sw_batch_size=1, overlap=0.5, mode="gaussian"), mirrors)
    if way == "plain":
        return lambda: plain(image, source)
    method = Tent() if way.startswith("TENT") else GraTa()
    precision = "fast" if "fast" in way else "exact"
    inferer = AdaptiveInferer(method=method, inferer=plain, head="softmax", precision=precision, recompute="recompute" in way)

    def answer() -> None:
        inferer(image, source)
        assert inferer.cases[-1].reason is None, inferer.cases[-1].reason

    return answer


def measure(way: str, window: int, size: int, mirrors: int, threads: int) -> tuple[float, float | None]:
    """Seconds and peak memory in MiB of one way, once."""
    torch.set_num_threads(threads)
    function = prepare(way, window, size, mirrors)
    with torch.no_grad(), memory_rise() as memory:
        began = time.perf_counter()
        function()
        seconds = time.perf_counter() - began
    return seconds, memory[0]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=int, default=128, help="voxels along each side")
    parser.add_argument("--size", type=int, default=256, help="of the image; twice the window gives 27 windows")
    parser.add_argument("--mirrors", type=int, default=0, choices=range(4), help="along how many axes windows are mirrored")
    parser.add_argument("--way", action="append", choices=WAYS, help="one of the ways; all without")
    given = parser.parse_args()
    millions = sum(p.numel() for p in network().parameters()) / 1e6
    say(f"{millions:.1f} million parameters, windows of {given.window}^3 at an overlap of a half, image of {given.size}^3\n")
    say("| way | s | x plain | MiB | x training step |\n|---|---|---|---|---|")
    found: dict[str, tuple[float, float | None]] = {}
    for way in given.way or WAYS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found[way] = pool.submit(measure, way, given.window, given.size, given.mirrors, torch.get_num_threads()).result()
        seconds, memory = found[way]
        of_plain = f"{seconds / found['plain'][0]:.2f}" if "plain" in found else ""
        step = found.get("training step", (0.0, None))[1]
        of_step = f"{memory / step:.2f}" if memory and step else ""
        say(f"| {way} | {seconds:.1f} | {of_plain} | {memory or 0:.0f} | {of_step} |")


def say(line: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
