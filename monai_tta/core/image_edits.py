"""Image edits: change how sharp or bright a window is, and nothing else."""

from __future__ import annotations

import torch
from monai.transforms import AdjustContrast, GaussianSmooth, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_tta.core.restyling import KeepMoments


class _Unsharp(Transform):
    """Add to the image its difference from a blurred one. This doubles details finer than a voxel."""

    def __call__(self, img: Tensor) -> Tensor:
        return 2 * img - GaussianSmooth(sigma=1.0)(img)


# Sigmas in voxels and contrast exponents: the values that were tried (docs/research-log.md).
EDITS: dict[str, Transform] = {
    "sharper": _Unsharp(),
    "softer": GaussianSmooth(sigma=0.8),
    "brighter": AdjustContrast(0.6),
    "darker": AdjustContrast(1.6),
}


@torch.no_grad()
def edit_image(windows: Tensor, edit: str) -> Tensor:
    """Edit windows ``(N, C, *spatial)`` in any unit. Each keeps its mean and standard deviation, its shape and its dtype.

    Args:
        windows: what to edit; unchanged themselves.
        edit: a name in `EDITS`: "sharper", "softer", "brighter" or "darker".
    """
    change = KeepMoments([EDITS[edit]])
    exact = windows.float() if windows.dtype in (torch.float16, torch.bfloat16) else windows
    out = [convert_to_tensor(change(window), track_meta=False) for window in exact]
    return torch.stack(out).to(windows)
