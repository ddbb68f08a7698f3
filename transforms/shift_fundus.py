"""Simulated camera shifts for colour fundus photographs in [0, 1], with a severity from 1 to 5 and a seed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import GaussianSmooth
from PIL import Image
from torch import Tensor

from monai_tta.transforms.shift import ScannerShift


class CameraShift(ScannerShift):
    """A fixed change of a photograph ``(3, H, W)`` in [0, 1]; subclasses say how. What is black stays nearly so.

    Raises:
        ValueError: for an image that has not three channels, or values outside [0, 1].
    """

    def __call__(self, img: Tensor) -> Tensor:
        """Return the shifted photograph, in [0, 1]."""
        unit = torch.as_tensor(img, dtype=torch.float32)
        if unit.shape[0] != 3 or unit.ndim != 3:
            raise ValueError(f"a colour photograph has shape (3, H, W), found {tuple(unit.shape)}")
        if float(unit.min()) < 0 or float(unit.max()) > 1:
            raise ValueError(f"a photograph's values lie in [0, 1], found {float(unit.min()):g} to {float(unit.max()):g}")
        return torch.as_tensor(self.shift(unit)).clamp(0, 1)

    def draw(self) -> torch.Generator:
        """The generator of this shift's seed."""
        return torch.Generator().manual_seed(self.seed)


class IlluminationShift(CameraShift):
    """Light from one side: brightness falls off by up to 15 % per step across the photograph, direction by the seed."""

    def shift(self, unit: Tensor) -> Tensor:
        """Multiply by a slope."""
        angle = float(torch.rand((), generator=self.draw())) * 2 * torch.pi
        rows, columns = torch.meshgrid(*[torch.linspace(-0.5, 0.5, n) for n in unit.shape[1:]], indexing="ij")
        slope = rows * np.sin(angle) + columns * np.cos(angle)
        return unit * (1 - 0.15 * self.severity * (slope + 0.5)).clamp_min(0)


class ColourCastShift(CameraShift):
    """Another white balance: two channels lose up to 10 % per step, which two by the seed."""

    def shift(self, unit: Tensor) -> Tensor:
        """Scale channels."""
        kept = int(torch.randint(3, (), generator=self.draw()))
        gains = torch.full((3, 1, 1), 1 - 0.1 * self.severity)
        gains[kept] = 1.0
        return unit * gains


class HazeShift(CameraShift):
    """A cataract's veil: the photograph fades into its own blurred, brightened light by 12 % per step."""

    def shift(self, unit: Tensor) -> Tensor:
        """Mix with scattered light."""
        light = torch.as_tensor(GaussianSmooth(sigma=0.1 * max(unit.shape[1:]))(unit)).mean(0, keepdim=True)
        seen = unit.amax(0, keepdim=True) > 0.05  # the camera's black surround has no lens before it
        share = 0.12 * self.severity * seen
        return (1 - share) * unit + share * (0.3 + 0.7 * light)


class FocusShift(CameraShift):
    """Out of focus: Gaussian blur of 0.15 % of the longer side per step."""

    def shift(self, unit: Tensor) -> Tensor:
        """Blur."""
        return torch.as_tensor(GaussianSmooth(sigma=0.0015 * self.severity * max(unit.shape[1:]))(unit))


class CameraGammaShift(CameraShift):
    """Another tone curve: gamma of 1 + 0.2 per step, or its inverse, by the seed."""

    def shift(self, unit: Tensor) -> Tensor:
        """Bend the tones."""
        gamma = 1 + 0.2 * self.severity
        return unit ** (gamma if torch.rand((), generator=self.draw()) < 0.5 else 1 / gamma)


class CompressionShift(CameraShift):
    """A smaller file: JPEG at quality 50, 32, 20, 12 and 7 (Pillow); nothing is drawn at random."""

    def shift(self, unit: Tensor) -> Tensor:
        """Write and read again."""
        quality = (50, 32, 20, 12, 7)[self.severity - 1]
        picture = (unit * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).to(unit) / 255


FUNDUS_SHIFTS: Sequence[type[ScannerShift]] = (
    IlluminationShift,
    ColourCastShift,
    HazeShift,
    FocusShift,
    CameraGammaShift,
    CompressionShift,
)
