"""Exact or fast arithmetic: which half-width type a machine multiplies natively, and when to use it.

Half-width types have 16 bits: bfloat16 and float16.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["exact", "fast"]
HALF_DTYPES = (torch.float16, torch.bfloat16)


def native_half_dtype(device: torch.device) -> torch.dtype | None:
    """The half-width type that a device multiplies natively.

    Returns:
        bfloat16 where the device has it, else float16 on a GPU, else None: to emulate one is slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return None
    checks = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return torch.bfloat16 if any(is_supported() for is_supported in checks) else None


def autocast_for(precision: Precision, windows: torch.Tensor) -> AbstractContextManager[Any]:
    """A ``with`` block in which a network computes in the device's half-width type.

    It does nothing for precision="exact", for windows that are not float32, and on a device without such a type. It does nothing
    for float16 while gradients are recorded: the range of float16 is too small for them without scaling the loss.
    """
    dtype = native_half_dtype(windows.device) if precision == "fast" and windows.dtype == torch.float32 else None
    if dtype is None or (dtype == torch.float16 and torch.is_grad_enabled()):
        return nullcontext()
    # The cache of cast weights is off, because it would keep weights from before a step.
    return torch.autocast(windows.device.type, dtype=dtype, cache_enabled=False)


def lacks_half_kernel(error: Exception) -> bool:
    """Whether a network failed because torch has no half-width form of one of its operations."""
    return isinstance(error, RuntimeError) and any(f"not implemented for '{name}'" in str(error) for name in ("BFloat16", "Half"))


def without_weight_cache(device: torch.device) -> AbstractContextManager[Any]:
    """A ``with`` block in which the caller's autocast goes on without its cache of weights, which may be from before a step."""
    kind = device.type
    torch.clear_autocast_cache()
    return torch.autocast(
        kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
    )


def each_finite(x: torch.Tensor) -> torch.Tensor:
    """Whether all numbers of each ``x[i]`` are finite: booleans ``(len(x),)``."""
    # A finite sum has finite parts, and summing takes a tenth of the time. A sum that is not finite proves nothing: numbers near
    # the largest may overflow.
    flat = x.flatten(1)
    sums = flat.sum(1).isfinite()
    return sums if bool(sums.all()) else flat.isfinite().all(1)


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Logits in float32 or wider. In half width, probabilities close to one would be rounded to one."""
    return logits.float() if logits.dtype in HALF_DTYPES else logits
