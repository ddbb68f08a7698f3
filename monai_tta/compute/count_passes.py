"""How many windows a network and its copies answer, and through how many of them gradients go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from monai_tta.compute.containers import map_tensors


@dataclass
class Passes:
    """Passes of single windows.

    Args:
        forwards: windows that were answered.
        backwards: windows through which a gradient went back.
    """

    forwards: int = 0
    backwards: int = 0


@contextmanager
def count_passes(network: nn.Module) -> Iterator[Passes]:
    """A ``with`` block that counts what a network and its copies do in this process.

    A copy is any module of the network's class that is not inside another one. Two windows in one batch are two. What gradient
    checkpointing computes a second time is inside the network and not counted.

    Args:
        network: unwrapped, so that its copies are of its class.

    Yields:
        the counts, which are right at the end of the block.
    """
    passes = Passes()
    kind = type(network)
    inside: list[nn.Module] = []

    def is_counted(module: nn.Module) -> bool:
        """Whether it is the network or a copy; what is handed to an inferer in the network's place only asks for answers."""
        own = type(module)
        return issubclass(own, kind) and not getattr(own, "stands_in_for_a_network", False)

    def enter(module: nn.Module, _: Any) -> None:
        if is_counted(module):
            inside.append(module)

    def leave(module: nn.Module, _: Any, answer: Any) -> None:
        if not is_counted(module):
            return
        inside.pop()
        if inside or answer is None:  # None: it failed
            return
        tensors = _tensors(answer)
        size = len(tensors[0])
        passes.forwards += size
        with_gradient = next((tensor for tensor in tensors if tensor.requires_grad), None)
        if with_gradient is not None:
            with_gradient.register_hook(lambda _: _count_backward(passes, size))

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _count_backward(passes: Passes, size: int) -> None:
    passes.backwards += size


def _tensors(answer: Any) -> list[Tensor]:
    """The tensors of an answer, in whatever container."""
    found: list[Tensor] = []

    def keep(value: Any) -> Any:
        if isinstance(value, Tensor):
            found.append(value)
        return value

    map_tensors(keep, answer)
    return found
