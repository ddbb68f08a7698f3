"""A private copy of a network that shares every tensor with it, in eval mode and in the fastest memory layout."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt

_CONTAINERS = (dict, OrderedDict, set)


def copy_sharing_tensors(source: nn.Module) -> nn.Module:
    """Copy a network's modules and share their tensors' storage. Hooks that belong to others are kept by reference.

    Raises:
        CannotAdapt: for a network that cannot be copied, or whose weights were made under `torch.inference_mode`.
    """
    memo: dict[int, Any] = {}
    for parameter in source.parameters():
        if parameter.is_inference():
            raise CannotAdapt(
                f"{type(source).__name__} was built under torch.inference_mode, so its weights can take no gradient; "
                "build it outside"
            )
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in source.buffers():
        memo[id(buffer)] = buffer.detach()
    inside = {id(m) for m in source.modules()}
    for module in source.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo.setdefault(id(value), value.detach())
            elif type(value) in _CONTAINERS and not value:  # a layer has eight: deepcopy spends most of its time on these
                memo[id(value)] = type(value)()
        for hook in [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]:
            owner = getattr(hook, "__self__", None)
            if owner is not None and id(owner) not in inside:
                memo[id(owner)] = owner
    try:
        return copy.deepcopy(source, memo)
    except Exception as error:  # an attribute may refuse to be copied in any way: a lock, a file, a session
        raise CannotAdapt(f"{type(source).__name__} cannot be copied: {type(error).__name__}: {error}") from error


def in_eval_mode(source: nn.Module) -> nn.Module:
    """The network itself when all of it is in eval mode, else a copy that is.

    In training mode a forward pass would draw dropout from the caller's generator and change the source's running statistics.
    """
    if not any(m.training for m in source.modules()):
        return source
    module = copy_sharing_tensors(source)
    set_eval_mode(module)
    return module


def set_eval_mode(module: nn.Module) -> None:
    """Eval mode without a call of ``eval()``, which some networks override."""
    for part in module.modules():
        part.training = False


def in_fast_layout(windows: Tensor) -> Tensor:
    """Windows in the memory layout in which the device's convolutions are fastest: channels last for 2D on a CPU.

    In 3D the layout made no difference worth a copy (torch 2.13).
    """
    if windows.ndim == 4 and windows.device.type == "cpu":
        return windows.contiguous(memory_format=torch.channels_last)
    return windows


def network_digest(network: nn.Module) -> str:
    """A digest of a network's type, and of the names, shapes and values of its tensors."""
    digest = hashlib.sha256(type(network).__name__.encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
