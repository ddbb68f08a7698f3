"""Simulated camera shifts for colour fundus photographs in [0, 1], with a severity from 1 to 5 and a seed.

How real photographs are degraded, and models of it: Shen et al., Modeling and enhancing low-quality retinal fundus images,
IEEE Trans. Med. Imaging 40 (2021). The models here are simpler.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from monai_tta.transforms.fundus import FundusFieldOfView
from monai_tta.transforms.shift_base import ScannerShift, Shifts, blurred


class CameraShift(ScannerShift):
    """A fixed change of a photograph ``(3, H, W)`` in [0, 1], red first. The result is in [0, 1].

    Raises:
        ValueError: when called with an image of other than three channels, or with values outside [0, 1].
    """

    def check(self, values: Tensor) -> None:
        """Raise a ValueError for an image that is no photograph in [0, 1]."""
        if values.ndim != 3 or values.shape[0] != 3:
            raise ValueError(f"a colour photograph has shape (3, H, W), found {tuple(values.shape)}")
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            raise ValueError(f"a photograph's values lie in [0, 1], found {low:g} to {high:g}; divide bytes by 255")

    def on_its_scale(self, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Shift values in [0, 1], also where they span only a part of it."""
        return self.shift(values).clamp(0, 1)


class IlluminationShift(CameraShift):
    """Light from one side: brightness falls by 15 % per step from there to the other. The seed draws the direction."""

    def shift(self, unit: Tensor) -> Tensor:
        """Multiply by a slope."""
        angle = float(torch.rand((), generator=self.draw())) * 2 * math.pi
        rows, columns = torch.meshgrid(*[torch.linspace(-0.5, 0.5, n, device=unit.device) for n in unit.shape[1:]], indexing="ij")
        slope = rows * math.sin(angle) + columns * math.cos(angle)
        return unit * (1 - 0.15 * self.severity * (slope + 0.5)).clamp_min(0)


class ColourCastShift(CameraShift):
    """Another white balance: two colours lose 10 % per step. The seed draws which."""

    def shift(self, unit: Tensor) -> Tensor:
        """Scale channels."""
        kept = int(torch.randint(3, (), generator=self.draw()))
        gains = torch.full((3, 1, 1), 1 - 0.1 * self.severity, device=unit.device)
        gains[kept] = 1.0
        return unit * gains


class HazeShift(CameraShift):
    """A cataract's veil: the photograph fades into its own scattered light, 12 % per step. Nothing is random.

    The black surround has no lens before it and stays black. The veil adds to a weakened picture as in Peli and Peli, IEEE
    Trans. Med. Imaging 8 (1989). Its brightness, 0.3 and more where the retina is bright, was chosen by eye.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Mix with scattered light: the picture blurred over a tenth of its size."""
        coarse = blurred(F.adaptive_avg_pool2d(unit.mean(0, keepdim=True), 64), 6.4)
        light = F.interpolate(coarse[None], size=unit.shape[1:], mode="bilinear", align_corners=False)[0]
        share = 0.12 * self.severity * FundusFieldOfView()(unit)
        return (1 - share) * unit + share * (0.3 + 0.7 * light)


class FocusShift(CameraShift):
    """Out of focus: Gaussian blur of 0.15 % of the longer side per step. Nothing is random.

    The rim of the field of view stays sharp, because the stop that makes it lies inside the camera.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Blur the field of view, with weights that leave out what is outside of it."""
        sigma = 0.0015 * self.severity * max(unit.shape[1:])
        view = FundusFieldOfView()(unit)
        weight = blurred(view, sigma).clamp_min(1e-3)
        return torch.where(view > 0, blurred(unit * view, sigma) / weight, unit)


class CameraGammaShift(CameraShift):
    """Another tone curve: a gamma of 1 + 0.2 per step (darker), or its inverse (brighter). The seed draws which."""

    def shift(self, unit: Tensor) -> Tensor:
        """Raise to a power."""
        gamma = 1 + 0.2 * self.severity
        return unit ** (gamma if torch.rand((), generator=self.draw()) < 0.5 else 1 / gamma)


class CompressionShift(CameraShift):
    """A smaller file: JPEG at quality 50, 32, 20, 12 and 7 (Pillow), colours at half resolution. Nothing is random."""

    def shift(self, unit: Tensor) -> Tensor:
        """Compress and decompress."""
        quality = (50, 32, 20, 12, 7)[self.severity - 1]
        picture = (unit * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).to(unit) / 255


FUNDUS_SHIFTS: Shifts = (
    IlluminationShift,
    ColourCastShift,
    HazeShift,
    FocusShift,
    CameraGammaShift,
    CompressionShift,
)
