"""Simulated scanner shifts for CT in Hounsfield units, with a severity from 1 to 5 and a seed.

Strengths are in HU; the air around the patient stays at or above -1024 HU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import GaussianSmooth, RandGaussianNoise
from torch import Tensor

from monai_tta.transforms.shift import ScannerShift, thick_slices

AIR = -1024.0


class HounsfieldShift(ScannerShift):
    """A fixed change of a CT in HU, ``(1, x, y, z)``; subclasses say how.

    Raises:
        ValueError: when the image can't be in HU because nothing in it is below -50.
    """

    def __call__(self, img: Tensor) -> Tensor:
        """Return the shifted image in HU, of the same shape."""
        hu = torch.as_tensor(img, dtype=torch.float32)
        if float(hu.min()) > -50:
            raise ValueError(
                f"an image in HU has air or fat below -50, found a minimum of {float(hu.min()):g}; shift before windowing"
            )
        return torch.as_tensor(self.shift(hu)).clamp_min(AIR)


class SoftKernelShift(HounsfieldShift):
    """A softer reconstruction kernel: Gaussian blur of 0.15 voxels per step."""

    def shift(self, unit: Tensor) -> Tensor:
        """Blur."""
        return torch.as_tensor(GaussianSmooth(sigma=0.15 * self.severity)(unit))


class SharpKernelShift(HounsfieldShift):
    """A sharper reconstruction kernel: unsharp masking, which raises the noise as well.

    MONAI's `GaussianSharpen` blurs first and sharpens what is left; a sharp kernel doesn't.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Add 15 % more of what a blur of one voxel takes away at each step."""
        return unit + 0.15 * self.severity * (unit - torch.as_tensor(GaussianSmooth(sigma=1.0)(unit)))


class LowDoseShift(HounsfieldShift):
    """Less dose: noise of 8 HU per step, smoothed a little as a reconstruction kernel does."""

    def shift(self, unit: Tensor) -> Tensor:
        """Add noise."""
        noise = self.seeded(RandGaussianNoise(prob=1.0, std=1.0, sample_std=False))
        grain = torch.as_tensor(GaussianSmooth(sigma=0.6)(torch.as_tensor(noise(torch.zeros_like(unit)))))
        return unit + 8.0 * self.severity * grain / grain.std()


class CalibrationShift(HounsfieldShift):
    """Another calibration: 8 HU of offset and 2 % of slope per step, both ways by the seed."""

    def shift(self, unit: Tensor) -> Tensor:
        """Scale about water and add."""
        sign = 1.0 if torch.rand((), generator=torch.Generator().manual_seed(self.seed)) < 0.5 else -1.0
        return unit * (1 + sign * 0.02 * self.severity) + sign * 8.0 * self.severity


class SliceThicknessShift(HounsfieldShift):
    """Thicker slices along the last axis: 1 + severity voxels, averaged and interpolated back."""

    def shift(self, unit: Tensor) -> Tensor:
        """Average slices."""
        return thick_slices(unit, 1 + self.severity)


class ContrastPhaseShift(HounsfieldShift):
    """Another contrast phase: enhanced soft tissue and blood (60 to 300 HU) lose 15 % of their enhancement per step."""

    def shift(self, unit: Tensor) -> Tensor:
        """Pull values above 60 HU towards it; bone, above 300 HU, comes back to itself by 500."""
        enhancement = (unit - 60).clamp_min(0)
        fade = ((500 - unit) / 200).clamp(0, 1)
        return unit - 0.15 * self.severity * enhancement * fade


CT_SHIFTS: Sequence[type[ScannerShift]] = (
    SoftKernelShift,
    SharpKernelShift,
    LowDoseShift,
    CalibrationShift,
    SliceThicknessShift,
    ContrastPhaseShift,
)
