"""Find the network behind whatever an inferer is handed, and say what is wrong with an input before it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import in_eval_mode
from monai_tta.core.normalization import TooFewVoxels

Network = Callable[..., Any]  # windows, maybe more -> logits, maybe in a container
Fingerprint = tuple[tuple[int, int, str], ...]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def unwrap(network: Network) -> nn.Module:
    """The plain module inside DataParallel, DistributedDataParallel or a torch.compile shell.

    Raises:
        CannotAdapt: for a lambda, a function or a TorchScript module, whose layers are hidden; for what `AdaptiveInferer` hands
            on in the network's place.
    """
    module: Any = network
    if getattr(type(module), "stands_in_for_a_network", False):
        raise CannotAdapt(
            f"{type(module).__name__} is handed on by an inferer that adapts already, and its layers cannot be seen"
        )
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(module, nn.Module) and "_orig_mod" in module._modules:
            module = module._orig_mod
        else:
            break
    if isinstance(module, torch.jit.ScriptModule):
        raise CannotAdapt(f"{module.original_name} is TorchScript, which hides its layers; give the eager network instead")
    if not isinstance(module, nn.Module):
        name = getattr(module, "__name__", type(module).__name__)
        raise CannotAdapt(
            f"{name!r} is a callable, not a torch.nn.Module: its layers cannot be seen; hand over the network itself"
        )
    if any(hasattr(m, "_trt_compiler") for m in module.modules()):
        raise CannotAdapt(f"{type(module).__name__} is TensorRT-patched: its listed parameters do nothing")
    return module


def fingerprint(network: nn.Module) -> Fingerprint:
    """Figures that change whenever a weight or buffer is replaced or written to, also through ``.data``, which torch does not
    count."""
    tensors = [t.detach() for t in (*network.parameters(), *network.buffers())]
    with torch.no_grad():
        # As text, in which NaN equals NaN: a network may hold a mask of infinities.
        sums = [float(t.sum() if t.dtype == torch.float64 else t.float().sum()).hex() for t in tensors]
    places = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
    return tuple((*place, total) for place, total in zip(places, sums, strict=True))


def seen_inside(network: Network) -> tuple[Network, nn.Module | None, str | None]:
    """What answers windows: the network, or a copy of it in eval mode; the module inside; and why there is none to be seen.

    Args:
        network: what an inferer was handed.
    """
    try:
        source = unwrap(network)
        quiet = in_eval_mode(source)
    except CannotAdapt as error:
        return network, None, str(error)
    return (network if quiet is source else quiet), source, None


def check_input(inputs: Tensor, network: Network, roi_size: Any) -> None:
    """Refuse an image of which the network could answer no window.

    Raises:
        TypeError: for an integer image, or one that is no tensor.
        ValueError: for no voxels, or a wrong number of dimensions or channels.
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"the image is a {type(inputs).__module__}.{type(inputs).__name__}; give a float tensor (batch, channel, *spatial), "
            "as torch.as_tensor(image, dtype=torch.float32) or MONAI's EnsureType make it"
        )
    if not inputs.is_floating_point():
        raise TypeError(f"the image has dtype {inputs.dtype}; convert it to float first (EnsureType(dtype=torch.float32))")
    if inputs.numel() == 0:
        raise ValueError(f"the image has no voxels: its shape is {tuple(inputs.shape)}")
    if isinstance(roi_size, list | tuple) and inputs.ndim != len(roi_size) + 2:
        raise ValueError(
            f"roi_size {tuple(roi_size)} wants images (batch, channel, {len(roi_size)} spatial), found {tuple(inputs.shape)}"
        )
    try:
        module = unwrap(network)
    except CannotAdapt:
        return
    # The least, because a network may stack 2D images into a volume of its own.
    dims = min((m.weight.ndim - 2 for m in module.modules() if isinstance(m, _CONVOLUTIONS)), default=0)
    if inputs.ndim - 2 < dims:
        raise ValueError(f"{type(module).__name__} is {dims}D, found an image of shape {tuple(inputs.shape)}")


def explain_failure(error: RuntimeError, windows: Tensor, network: nn.Module | None) -> Exception | None:
    """An error in words, where a network failed because windows have another number of channels or another dtype; else None."""
    module = network if isinstance(network, nn.Module) else None
    weights = next((p for p in module.parameters() if p.is_floating_point()), None) if module else None
    if weights is not None and "type" in str(error) and weights.dtype != windows.dtype:
        return TypeError(
            f"the image is {windows.dtype} and the weights of {type(module).__name__} are {weights.dtype}: convert one of them, "
            f"the image by image.to({weights.dtype}) or EnsureType(dtype={weights.dtype})"
        )
    convolution = next((m for m in module.modules() if isinstance(m, _CONVOLUTIONS)), None) if module else None
    if "channels" not in str(error) or convolution is None or convolution.in_channels == windows.shape[1]:
        return None
    found = f"found {windows.shape[1]} in windows {tuple(windows.shape)}"
    return ValueError(f"{type(module).__name__} takes {convolution.in_channels} channel(s), {found}")


def describe_failure(failure: Exception) -> str:
    """Why adapting failed, in words for a record, which holds no paths."""
    if isinstance(failure, CannotAdapt | TooFewVoxels | FloatingPointError):
        return str(failure)
    words = "" if isinstance(failure, OSError) else f": {failure}"
    return f"adapting failed with {type(failure).__name__}{words}"
