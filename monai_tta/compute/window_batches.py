"""How many windows a network is asked about at once while it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

# torch 2.13's CPU convolutions of one small volume take up to six times as long as those of two (docs/performance.md).
# In 2D there is nothing to be saved once a few windows fill the processor.
VOLUMES, PICTURES = 64**3, 48**3


_AT_ONCE: ContextVar[int | None] = ContextVar("voxels at once", default=None)


def windows_at_once(windows: Tensor) -> int:
    """How many windows ``(N, C, *spatial)`` of this size are asked about at once while learning: those that together have
    `VOLUMES` voxels, in 2D `PICTURES` pixels, at least one."""
    told, usual = _AT_ONCE.get(), VOLUMES if windows.ndim == 5 else PICTURES
    return max(1, (usual if told is None else told) // windows[0, 0].numel())


@contextmanager
def voxels_at_once(most: int) -> Iterator[None]:
    """Inside, learning asks about windows, and views of them, of so many voxels together; 0: one after the other, as papers' code
    does."""
    token = _AT_ONCE.set(most)
    try:
        yield
    finally:
        _AT_ONCE.reset(token)
