"""What may move: a private stand-in for the source network, with a few named tensors of its own.

Frozen tensors share the source's storage; only the moving ones are copied, and normalisation layers are changed in the
stand-in alone, so that nothing an adaptation does can reach the source. Reset is rebirth: drop the shadow, make another.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.checkpointing import checkpoint_blocks
from monai_tta.compute.containers import main_output
from monai_tta.compute.fast_kernels import use_fast_kernels
from monai_tta.compute.precision import Precision, at_least_float32, autocast_for
from monai_tta.core.normalization import AdaptiveNorm, StatisticsFrom, with_statistics
from monai_tta.core.selection import Selection

_EMPTY = (dict, OrderedDict, set)


class CannotAdapt(ValueError):
    """This network, or this image, cannot be adapted; the message says why and what to choose instead."""


def _copy_module(source: nn.Module) -> nn.Module:
    """Copy the module tree while sharing every tensor's storage; hooks owned by outsiders are kept by reference."""
    memo: dict[int, Any] = {}
    for p in source.parameters():
        if p.is_inference():
            raise CannotAdapt(
                f"{type(source).__name__} was built under torch.inference_mode, so its weights can take no gradient; "
                "build it outside"
            )
        memo[id(p)] = nn.Parameter(p.detach(), requires_grad=False)
    for b in source.buffers():
        memo[id(b)] = b.detach()
    inside = {id(m) for m in source.modules()}
    for module in source.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo.setdefault(id(value), value.detach())
            elif type(value) in _EMPTY and not value:  # eight of these a layer: most of what a copy takes
                memo[id(value)] = type(value)()
        for hook in [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]:
            owner = getattr(hook, "__self__", None)
            if owner is not None and id(owner) not in inside:
                memo[id(owner)] = owner
    try:
        return copy.deepcopy(source, memo)
    except Exception as error:  # an attribute of the network's own may refuse in any way: a lock, a file, a session
        raise CannotAdapt(f"{type(source).__name__} cannot be copied: {type(error).__name__}: {error}") from error


def in_eval_mode(source: nn.Module) -> nn.Module:
    """The network itself when it is in eval mode throughout, else a stand-in that is: a forward pass in training mode
    would draw dropout from the caller's generator and write running statistics into the source."""
    if not any(m.training for m in source.modules()):
        return source
    module = _copy_module(source)
    _set_eval_mode(module)
    return module


def _set_eval_mode(module: nn.Module) -> None:
    """Eval mode without a call of ``eval()``, which some networks override."""
    for part in module.modules():
        part.training = False


class Shadow:
    """A stand-in for a source network: call it with windows, get logits.

    Args:
        source: the network, unwrapped (no DataParallel, DDP or compile shell); never written to.
        head: "softmax" or "sigmoid".
        select: which parameters may move; None for none.
        statistics: whose normalisation statistics: "source", "window" or "volume".
        blend: share of the present in the statistics, in [0, 1].

    Raises:
        CannotAdapt: when the selection finds nothing, or the network cannot be copied.
    """

    def __init__(
        self, source: nn.Module, head: Any, select: Selection | None, statistics: StatisticsFrom = "source", blend: float = 1.0
    ) -> None:
        self.head = head
        self.kind = type(source).__name__
        if isinstance(source, torch.jit.ScriptModule):
            raise CannotAdapt(f"{self.kind} is TorchScript, which hides its layers; give the eager network instead")
        self.module = use_fast_kernels(with_statistics(_copy_module(source), statistics, blend))
        _set_eval_mode(self.module)
        self.names: list[str] = []
        self.selected: str | None = None
        for way in select.ways if select else ():
            if names := way(self.module):
                self.names, self.selected = names, repr(way)
                break
        if select and not self.names:
            raise CannotAdapt(
                f"{self.kind} has nothing to adapt: {select!r} finds none of its parameters; "
                "choose select=Auto(), Biases(), Everything() or Matching(regex)"
            )
        self._copy_moving()
        self.extra: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.precision: Precision = "exact"
        self.recomputes = False
        self.layout: Callable[[Tensor], Tensor] = in_fast_layout
        self.optimizer: torch.optim.Optimizer | None = None
        self.suspicious_cases = 0  # of a continual stream's collapse, in so many cases in a row
        self._seeds = 0
        self._drawn = 0

    def _copy_moving(self) -> None:
        """Give the moving tensors a life of their own; tied ones stay tied."""
        shared = list(dict.fromkeys(self.module.get_parameter(name) for name in self.names))
        fresh = {id(old): nn.Parameter(old.detach().clone(), requires_grad=True) for old in shared}
        for module in self.module.modules():
            for key, value in module._parameters.items():
                module._parameters[key] = fresh.get(id(value), value)
        self.moving: list[nn.Parameter] = list(fresh.values())
        self.start = [old.detach() for old in shared]

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits ``(N, K, *spatial)`` of windows ``(N, C, *spatial)``: the network's first output where it has several. In
        float32 where fast arithmetic made them narrower."""
        logits = main_output(self.outputs(windows))
        if logits.requires_grad:  # a slope laid out otherwise than the features is slow to follow, layer by layer
            logits.register_hook(self.layout)
        return at_least_float32(logits) if windows.dtype == torch.float32 else logits

    def outputs(self, windows: Tensor) -> Any:
        """Whatever the network answers, in its own container."""
        args, kwargs = self.extra
        with autocast_for(self.precision, windows):
            return self.module(self.layout(windows), *args, **kwargs)

    def recompute(self) -> None:
        """Learn in less memory from now on, see `monai_tta.compute.checkpointing`."""
        if not self.recomputes:
            self.recomputes = checkpoint_blocks(self.module) > 0

    def seed(self, seed: int) -> None:
        """Start this shadow's stream of random draws anew."""
        self._seeds, self._drawn = seed, 0

    def draw(self) -> int:
        """The next seed of the stream; the caller's generators are not involved."""
        self._drawn += 1
        return (self._seeds * 1_000_003 + self._drawn) % 2**32

    @property
    def weight_distance(self) -> float:
        """Euclidean distance of the moving tensors from the source's."""
        return float(sum(((a.detach() - b) ** 2).sum() for a, b in zip(self.moving, self.start, strict=True))) ** 0.5

    def pool_statistics(self, windows: Tensor) -> None:
        """Pool normalisation statistics over these windows and keep them (layers with statistics="volume" only)."""
        layers = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.statistics == "volume"]
        if not layers:
            return
        with _pooling(layers), torch.no_grad():
            self(windows)

    def distances(self, windows: Tensor) -> list[float]:
        """How far these windows' normalisation statistics, pooled, are from the source's: one figure (see
        `AdaptiveNorm.distance`) for each layer with memory, in the order in which they are asked."""
        found: list[float] = []
        layers = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats]
        hooks = [m.register_forward_pre_hook(lambda layer, x: found.append(layer.distance(x[0]))) for m in layers]
        try:
            with torch.no_grad():
                self(windows)
        finally:
            for hook in hooks:
                hook.remove()
        return found


@contextmanager
def _pooling(layers: list[AdaptiveNorm]) -> Iterator[None]:
    for layer in layers:
        layer.pooling = True
    try:
        yield
    finally:
        for layer in layers:
            layer.pooling = False


def in_fast_layout(windows: Tensor) -> Tensor:
    """Windows in the memory layout that the device's convolutions are fastest in: 2D on a CPU, channels last. In 3D it
    made no difference worth a copy (torch 2.13)."""
    if windows.ndim == 4 and windows.device.type == "cpu":
        return windows.contiguous(memory_format=torch.channels_last)
    return windows
