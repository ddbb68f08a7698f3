"""Fast or exact arithmetic: where a machine multiplies half-width numbers natively, and when to let it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["exact", "fast"]


def native_half_dtype(device: torch.device) -> torch.dtype | None:
    """The half-width type that a device multiplies natively: bfloat16; float16 on a GPU without; None where there is neither,
    because emulating one is slower than float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return None
    asked = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return torch.bfloat16 if any(native() for native in asked) else None


def autocast_for(precision: Precision, windows: torch.Tensor) -> AbstractContextManager[Any]:
    """A ``with`` block in which a network answers float32 windows in the device's half-width type, if ``precision`` is
    "fast". Gradients are taken through bfloat16 but not through float16, whose range wants a loss scale. The cache of cast
    weights stays off: it would answer with weights from before they moved."""
    kind = native_half_dtype(windows.device) if precision == "fast" and windows.dtype == torch.float32 else None
    if kind is None or (kind == torch.float16 and torch.is_grad_enabled()):
        return nullcontext()
    return torch.autocast(windows.device.type, dtype=kind, cache_enabled=False)


def lacks_half_kernel(error: Exception) -> bool:
    """Whether a network failed because torch has no half-width form of one of its operations."""
    return isinstance(error, RuntimeError) and any(f"not implemented for '{kind}'" in str(error) for kind in ("BFloat16", "Half"))


def without_weight_cache(device: torch.device) -> AbstractContextManager[Any]:
    """The caller's autocast as it is, but with its weight cache off: it would answer with weights from before they moved."""
    kind = device.type
    torch.clear_autocast_cache()
    return torch.autocast(
        kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
    )


def each_finite(x: torch.Tensor) -> torch.Tensor:
    """Whether all numbers of each ``x[i]`` are finite. A sum is, if they are, and takes a tenth of the time; only one that isn't
    (numbers near the largest may sum up to infinity, too) is looked into."""
    flat = x.flatten(1)
    sums = flat.sum(1).isfinite()
    return sums if bool(sums.all()) else flat.isfinite().all(1)


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Logits in float32 at least: a half-width probability next to one is one."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
