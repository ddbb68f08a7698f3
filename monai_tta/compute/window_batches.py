"""How many windows go through a network at once while it adapts."""

from __future__ import annotations

from torch import Tensor

# torch 2.13's CPU convolutions of one small volume take up to six times as long as those of two (docs/performance.md).
# In 2D nothing is saved once a few windows fill the processor.
VOXELS_AT_ONCE = 64**3
PIXELS_AT_ONCE = 48**3


def windows_at_once(windows: Tensor, voxels: int | None = None) -> int:
    """How many windows ``(N, C, *spatial)`` of this size go through a network at once; at least one.

    Args:
        windows: windows of the size in question.
        voxels: how many voxels they may have in total; None for `VOXELS_AT_ONCE` in 3D and `PIXELS_AT_ONCE` in 2D; 0 for one
            window at a time.
    """
    usual = VOXELS_AT_ONCE if windows.ndim == 5 else PIXELS_AT_ONCE
    return max(1, (usual if voxels is None else voxels) // windows[0, 0].numel())
