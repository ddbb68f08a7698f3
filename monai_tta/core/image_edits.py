"""Show a network the same window as another camera operator would hand it in: sharper, softer, brighter, darker."""

from __future__ import annotations

import torch
from monai.transforms import AdjustContrast, GaussianSmooth, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_tta.core.restyling import KeepMoments


class _Unsharp(Transform):
    """What is finer than a voxel twice as strong: the image and its difference from a blurred one."""

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
def edit_image(windows: Tensor, way: str) -> Tensor:
    """Windows ``(N, C, *spatial)`` in any unit, changed one of the `EDITS`; each keeps its mean and standard deviation."""
    change = KeepMoments([EDITS[way]])
    exact = windows.float() if windows.dtype in (torch.float16, torch.bfloat16) else windows
    out = [convert_to_tensor(change(window), track_meta=False) for window in exact]
    return torch.stack(out).to(windows)
