"""What a network is like beside its place and dtype, and what has changed in a copy of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NOT_ATTRIBUTES = {"forward", "training", "_parameters", "_buffers", "_modules", "_stand_in", "_is_full_backward_hook"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_OTHER = object()  # stands for a value that is not plain: a copy has another one


class NetworkState:
    """A network's layers, plain attributes, hooks and buffers, as they are now.

    Args:
        network: the network. Of its tensors, only the buffers are copied.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = {path: type(module) for path, module in network.named_modules()}
        self.hooks = {path: _hooks(module) for path, module in network.named_modules()}
        self.attributes = {path: dict(_attributes(module)) for path, module in network.named_modules()}
        self.buffers = {name: buffer.detach().clone() for name, buffer in network.named_buffers(remove_duplicate=False)}

    def change_in(self, copied: nn.Module, network: nn.Module) -> str | None:
        """What somebody has done to a copy of the network, in words; None for a move to another device or dtype.

        Hooks on the copy itself, and attributes and tensors that the network does not have, do not count.

        Args:
            copied: made when this state was.
            network: the network, whose weights are compared.
        """
        modules = dict(copied.named_modules())
        if list(modules) != list(self.layers):
            return "adds, removes or swaps layers"
        for path, module in modules.items():
            name = f"layer {path}" if path else "the network"
            if path and type(module) is not self.layers[path]:
                return f"replaces {name}"
            if module.training:
                return f"puts {name} in training mode"
            if path and _hooks(module) != self.hooks[path]:
                return f"puts a hook on {name}, or takes one away"
            if (attribute := self._changed_attribute(path, module)) is not None:
                return f"sets {attribute!r} of {name}"
        ours = _tensors(copied, copied.named_buffers(remove_duplicate=False))
        theirs = _tensors(network, self.buffers.items())
        if missing := theirs.keys() - ours.keys():
            return f"takes {min(missing)} away from the network"
        changed = next((name for name, tensor in theirs.items() if not _same(ours[name], tensor)), None)
        return None if changed is None else f"puts other weights into the network ({changed})"

    def _changed_attribute(self, path: str, module: nn.Module) -> str | None:
        """A plain attribute with another value than it had; also one whose value the class gave before."""
        before = self.attributes[path]
        now = dict(_attributes(module))
        if gone := before.keys() - now.keys():
            return min(gone)
        for name, value in now.items():
            old = before[name] if name in before else getattr(type(module), name, value)
            if old is not value and (type(old) is not type(value) or old != value):
                return name
        return None


def _tensors(network: nn.Module, buffers: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Parameters, and buffers as given, by name."""
    return {**dict(network.named_parameters(remove_duplicate=False)), **dict(buffers)}


def _hooks(module: nn.Module) -> int:
    """How many hooks a module has."""
    return sum(len(getattr(module, name, ())) for name in _HOOKS)


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """A module's own attributes, those with values that are not plain by name alone."""
    for name, value in vars(module).items():
        if name not in _NOT_ATTRIBUTES:
            yield name, value if _is_plain(value) else _OTHER


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, _PLAIN)


@torch.no_grad()
def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether a tensor holds the other one's values, as far as its dtype can."""
    if ours.is_meta or theirs.is_meta or ours.shape != theirs.shape:
        return ours.is_meta and ours.shape == theirs.shape
    theirs = theirs.to(ours.device, ours.dtype)
    return torch.equal(ours, theirs) or bool(((ours == theirs) | (ours.isnan() & theirs.isnan())).all())
