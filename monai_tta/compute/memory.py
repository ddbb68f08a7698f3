"""How much more memory was in use at most than before."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def memory_rise(device: torch.device | str = "cpu") -> Iterator[list[float | None]]:
    """A ``with`` block that measures how far memory in use rises.

    Args:
        device: a GPU, for what torch allocates there; else the process's resident size is measured (on Linux only).

    Yields:
        a list. At the end of the block it gets one number, the largest rise in MiB, 0 or more; None where it cannot be measured.
    """
    rise: list[float | None] = []
    if torch.device(device).type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield rise
        rise.append((torch.cuda.max_memory_allocated(device) - held) / 2**20)
        return
    reset_peak = Path("/proc/self/clear_refs")
    if reset_peak.exists():
        # Memory that the allocator keeps for later would be used up before the process grows, so it is given back first.
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        reset_peak.write_text("5", encoding="utf-8")
    before = _status("VmRSS")
    yield rise
    peak = _status("VmHWM")
    rise.append(None if before is None or peak is None else max(0.0, peak - before))


def _status(name: str) -> float | None:
    """An entry of /proc/self/status, in MiB; None where there is no such file or entry."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), None)
