"""Simulated scanner shifts for CT in Hounsfield units, with a severity from 1 to 5 and a seed.

Volumes are ``(1, x, y, z)`` with slices along the last axis, as MONAI's orientation RAS gives them. Strengths are in HU and
lengths in voxels, for spacings near a scanner's own. Apply them before windowing.
"""

from __future__ import annotations

import torch
from monai.transforms import RandGaussianNoise
from torch import Tensor

from monai_tta.transforms.shift_base import ScannerShift, Shifts, blurred, thick_slices

AIR = -1024.0


class HounsfieldShift(ScannerShift):
    """A fixed change of a CT in HU. Nothing becomes darker than air at -1024 HU.

    What is darker already is padding outside the scanner's circle, and stays.

    Raises:
        ValueError: when called with an image that cannot be in HU because nothing in it is below -50.
    """

    def check(self, values: Tensor) -> None:
        """Raise a ValueError unless the image has something as dark as fat."""
        if float(values.min()) > -50:
            raise ValueError(
                f"an image in HU has air or fat below -50, found a minimum of {float(values.min()):g}; shift before windowing"
            )

    def on_its_scale(self, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Shift values in HU."""
        return torch.where(values < AIR, values, self.shift(values.clamp_min(AIR)).clamp_min(AIR))

    def shift(self, unit: Tensor) -> Tensor:
        """Change an image in HU."""
        raise NotImplementedError


class SoftKernelShift(HounsfieldShift):
    """A softer reconstruction kernel: blur within slices, Gaussian of 0.25 to 0.85 voxels in steps of 0.15.

    That filtering a picture can stand in for reconstructing it with another kernel is shown by Ohkubo et al., Med. Phys.
    38 (2011).
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Blur."""
        return blurred(unit, 0.1 + 0.15 * self.severity, axes=2)


class SharpKernelShift(HounsfieldShift):
    """A sharper reconstruction kernel: edges and noise stand out within slices, by unsharp masking.

    MONAI's `GaussianSharpen` blurs first and sharpens what is left; a sharp kernel does not. Source: as for `SoftKernelShift`.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Add back what a blur of one voxel takes away, 15 % more of it at each step."""
        return unit + 0.15 * self.severity * (unit - blurred(unit, 1.0, axes=2))


class LowDoseShift(HounsfieldShift):
    """Less dose: noise of 8 HU (standard deviation) per step, independent between slices, as coarse as a soft kernel leaves it.

    Noise falls with the square root of dose (Brooks and Di Chiro, Med. Phys. 3 (1976)): in addition to 12 HU, severity 3
    is about a fifth of the dose. Streaks, and more noise behind more tissue, are not simulated.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Add smoothed noise."""
        white = self.seeded(RandGaussianNoise(prob=1.0, std=1.0, sample_std=False))(torch.zeros_like(unit))
        grain = blurred(torch.as_tensor(white), 0.6, axes=2)
        return unit + 8.0 * self.severity * grain / grain.std()


class CalibrationShift(HounsfieldShift):
    """Another calibration: 8 HU of offset and 2 % of slope about water per step. The seed draws whether both rise or fall."""

    def shift(self, unit: Tensor) -> Tensor:
        """Scale about water and add."""
        sign = 1.0 if torch.rand((), generator=self.draw()) < 0.5 else -1.0
        return unit * (1 + sign * 0.02 * self.severity) + sign * 8.0 * self.severity


class SliceThicknessShift(HounsfieldShift):
    """Thicker slices: 1 + severity voxels averaged along the last axis, then interpolated back. Nothing is random.

    Raises:
        ValueError: when called with an image that is not a volume.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Average slices."""
        return thick_slices(unit, 1 + self.severity)


class ContrastPhaseShift(HounsfieldShift):
    """An earlier or missing contrast phase: what is brighter than 60 HU loses 15 % of its excess per step.

    Between 300 and 500 HU the loss fades out, so that dense bone stays. The remap sees intensities only: all organs fade
    alike, and spongy bone as bright as vessels fades with them. The order of brightness is kept. Nothing is random.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Pull enhanced values towards 60 HU."""
        enhancement = (unit - 60).clamp_min(0)
        fade = ((500 - unit) / 200).clamp(0, 1)
        return unit - 0.15 * self.severity * enhancement * fade


CT_SHIFTS: Shifts = (
    SoftKernelShift,
    SharpKernelShift,
    LowDoseShift,
    CalibrationShift,
    SliceThicknessShift,
    ContrastPhaseShift,
)
