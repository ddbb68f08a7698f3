"""A private copy of a network that shares its parameters, in eval mode and in the fastest memory layout."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import HALF_DTYPES
from monai_tta.core.errors import CannotAdapt

_CONTAINERS = (dict, OrderedDict, set)


def copy_sharing_parameters(source: nn.Module) -> nn.Module:
    """Copy a network's modules and share the storage of their parameters. Hooks that belong to others are kept by reference.

    Buffers and other tensors get storage of their own: a forward pass may write to them, even in eval mode.

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
    inside = {id(m) for m in source.modules()}
    try:
        for module in source.modules():
            for value in (*vars(module).values(), *module._buffers.values()):
                if isinstance(value, Tensor) and id(value) not in memo:
                    memo[id(value)] = copy.deepcopy(value.detach(), memo)  # with the memo, views of one storage stay that
                elif type(value) in _CONTAINERS and not value:  # a layer has eight: deepcopy spends most of its time on these
                    memo[id(value)] = type(value)()
            for hook in [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]:
                owner = getattr(hook, "__self__", None)
                if owner is not None and id(owner) not in inside:
                    memo[id(owner)] = owner
        return copy.deepcopy(source, memo)
    except Exception as error:  # an attribute may refuse to be copied in any way: a lock, a file, a session
        raise CannotAdapt(f"{type(source).__name__} cannot be copied: {type(error).__name__}: {error}") from error


def in_eval_mode(source: nn.Module) -> nn.Module:
    """The network itself when all of it is in eval mode, else a copy that is.

    In training mode a forward pass would draw dropout from the caller's generator and change the source's running statistics.
    """
    if not any(m.training for m in source.modules()):
        return source
    module = copy_sharing_parameters(source)
    set_eval_mode(module)
    return module


def set_eval_mode(module: nn.Module) -> None:
    """Eval mode without a call of ``eval()``, which some networks override."""
    for part in module.modules():
        part.training = False


def widen_half_tensors(module: nn.Module) -> bool:
    """Put float32 tensors in the place of a private copy's half-width ones (float16, bfloat16).

    Half-width numbers are too coarse to learn with: a small step of a weight is rounded away, and the square of a small gradient,
    or Adam's epsilon of 1e-8, is zero in float16. Tied tensors stay tied.

    Returns:
        whether there were any.
    """
    wide: dict[int, Any] = {}

    def widened(tensor: Tensor) -> Any:
        if id(tensor) not in wide:
            full = tensor.detach().float()
            wide[id(tensor)] = nn.Parameter(full, requires_grad=False) if isinstance(tensor, nn.Parameter) else full
        return wide[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers, vars(part)):
            for name, value in list(tensors.items()):
                if isinstance(value, Tensor) and value.dtype in HALF_DTYPES:
                    tensors[name] = widened(value)
    return bool(wide)


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


def digest_of_all(networks: Sequence[nn.Module]) -> str:
    """The digests of networks, each once, with spaces between.

    Args:
        networks: any of them may be named several times.
    """
    each = {id(network): network for network in networks}
    return " ".join(dict.fromkeys(network_digest(network) for network in each.values()))
