"""Devices by name, checked before anything is computed on them."""

from __future__ import annotations

import torch


def usable_device(name: str) -> torch.device:
    """The device of this name, e.g. "cpu", "cuda", "cuda:0" or "mps", once a tensor was made there.

    Raises:
        ValueError: for a name that is none, or a device that torch does not have here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r}; give cpu, cuda, cuda:0 or mps") from error
    if device.type == "meta":
        raise ValueError("device 'meta' computes nothing; give cpu, cuda, cuda:0 or mps")
    try:
        float(torch.ones(1, device=device).sum())
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"torch {torch.__version__} has no device {name!r} here; {_there()} ({words})") from error
    return device


def _there() -> str:
    """The devices that torch has."""
    names = [
        "cpu",
        *(f"cuda:{k}" for k in range(torch.cuda.device_count())),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
    return f"it has {', '.join(names)}"
