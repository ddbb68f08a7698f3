"""How much memory something takes at its highest, above what was held before."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def memory_rise(device: torch.device | str = "cpu") -> Iterator[list[float | None]]:
    """Puts into the list, at the end, how far memory rose at its highest, in MiB: what torch had allocated on a GPU, else the
    process's resident size (Linux; None elsewhere)."""
    rise: list[float | None] = []
    if torch.device(device).type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield rise
        rise.append((torch.cuda.max_memory_allocated(device) - held) / 2**20)
        return
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        # What the allocator keeps for later would be used before the process grows; and the highest so far was another's.
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        forget.write_text("5")
    before = _status("VmRSS")
    yield rise
    after = _status("VmHWM")
    rise.append(None if before is None or after is None else max(0.0, after - before))


def _status(what: str) -> float | None:
    """A line of /proc/self/status, in MiB."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), None)
