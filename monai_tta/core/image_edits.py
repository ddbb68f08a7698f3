"""Edits that change how sharp or bright a window is, and nothing else."""

from __future__ import annotations

import torch
from monai.transforms import AdjustContrast, GaussianSmooth, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_tta.core.restyling import KeepMoments


class _Unsharp(Transform):
    """Sharpen: add to the image its difference from a blurred one, which doubles details finer than a voxel."""

    def __call__(self, img: Tensor) -> Tensor:
        return 2 * img - GaussianSmooth(sigma=1.0)(img)


# Strengths in voxels and exponents: those that were tried (docs/research-log.md).
EDITS: dict[str, Transform] = {
    "sharper": _Unsharp(),
    "softer": GaussianSmooth(sigma=0.8),
    "brighter": AdjustContrast(0.6),
    "darker": AdjustContrast(1.6),
}


@torch.no_grad()
def edit_image(windows: Tensor, edit: str) -> Tensor:
    """Windows ``(N, C, *spatial)`` in any unit after one of the `EDITS`. Each keeps its mean and standard deviation."""
    change = KeepMoments([EDITS[edit]])
    exact = windows.float() if windows.dtype in (torch.float16, torch.bfloat16) else windows
    out = [convert_to_tensor(change(window), track_meta=False) for window in exact]
    return torch.stack(out).to(windows)
