"""Simulated scanner shifts for MRI, made of MONAI's transforms, with a severity from 1 to 5 and a seed.

Array transforms for images ``(C, *spatial)`` in any intensity unit. Strengths are relative to the image's own range, so
they may stand before or after a z-score. The same seed, severity and image give the same result. They simulate what
scanners do, and not any one scanner. CT and fundus photographs have theirs in `shift_ct` and `shift_fundus`.
"""

from __future__ import annotations

import math

import torch
from monai.transforms import (
    GaussianSmooth,
    GibbsNoise,
    KSpaceSpikeNoise,
    RandBiasField,
    RandHistogramShift,
    RandRicianNoise,
)
from torch import Tensor

from monai_tta.transforms.shift_base import SEVERITIES, ScannerShift, ScannerShiftd, Shifts, thick_slices

__all__ = [
    "MRI_SHIFTS",
    "SEVERITIES",
    "BiasFieldShift",
    "BlurNoiseShift",
    "ContrastShift",
    "GibbsRingingShift",
    "MotionGhostShift",
    "RicianNoiseShift",
    "ScannerShift",
    "ScannerShiftd",
    "SpikeShift",
    "ThickSliceShift",
]


class BiasFieldShift(ScannerShift):
    """A smooth multiplicative coil sensitivity (`monai.transforms.RandBiasField`), coefficients up to 0.06 per step.

    The field is ``exp`` of a polynomial, as in Van Leemput et al., IEEE Trans. Med. Imaging 18 (1999).
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Multiply by ``exp`` of a random polynomial of degree 3."""
        top = 0.06 * self.severity
        field = self.seeded(RandBiasField(degree=3, coeff_range=(0.5 * top, top), prob=1.0))
        return torch.as_tensor(field(unit))


class ContrastShift(ScannerShift):
    """Another pulse sequence: a random remapping of intensities (`monai.transforms.RandHistogramShift`)."""

    def shift(self, unit: Tensor) -> Tensor:
        """Mix the image with its remapped copy, more of it at each step."""
        remap = self.seeded(RandHistogramShift(num_control_points=6, prob=1.0))
        share = min(1.0, 0.2 + 0.2 * self.severity)
        return (1 - share) * unit + share * torch.as_tensor(remap(unit)).clamp(0, 1) ** (1 + 0.5 * self.severity)


class BlurNoiseShift(ScannerShift):
    """A thicker point spread and a lower field: Gaussian blur of 0.25 voxels and Rician noise of 2 % per step.

    What lies outside the grid counts as dark, so a tight crop loses brightness at its edge. Results were published with it,
    so it stays.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Blur, then add Rician noise."""
        smooth = GaussianSmooth(sigma=0.25 * self.severity)(unit)
        noise = self.seeded(RandRicianNoise(prob=1.0, std=0.02 * self.severity, sample_std=False))
        return torch.as_tensor(noise(smooth))


class RicianNoiseShift(ScannerShift):
    """A lower field or a faster scan: noise everywhere, also in air, of 2 % of the range per step.

    `monai.transforms.RandRicianNoise`; the model is that of Gudbjartsson and Patz, Magn. Reson. Med. 34 (1995).
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Add noise to both parts of the complex signal and take its magnitude."""
        noise = self.seeded(RandRicianNoise(prob=1.0, std=0.02 * self.severity, sample_std=False))
        return torch.as_tensor(noise(unit))


class GibbsRingingShift(ScannerShift):
    """A truncated k-space: ripples beside edges (`monai.transforms.GibbsNoise`). Nothing is random.

    A ball of k-space is kept: 78 % of the longest axis' half band at severity 1, then 64, 49, 35 and 21 %. For pictures see
    Zhuo and Gullapalli, RadioGraphics 26 (2006).
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Keep less of k-space at each step."""
        return torch.as_tensor(GibbsNoise(alpha=0.35 + 0.1 * self.severity)(unit))


class SpikeShift(ScannerShift):
    """A spark in the receive chain: one bright point of k-space (`monai.transforms.KSpaceSpikeNoise`) makes stripes.

    The stripes rise and fall by 3 % of the image's range per step; the seed draws their direction and spacing, 7 to 33
    voxels along each axis. For pictures see Zhuo and Gullapalli, RadioGraphics 26 (2006).
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Set one point of k-space."""
        share = torch.rand(unit.ndim - 1, generator=self.draw()) * 0.12 + 0.03
        # Near the middle of k-space, where MONAI has its origin. A cosine of this amplitude has this value there.
        place = tuple(n // 2 + max(1, int(s * n)) for s, n in zip(share.tolist(), unit.shape[1:], strict=True))
        height = 0.03 * self.severity * math.prod(unit.shape[1:])
        return torch.as_tensor(KSpaceSpikeNoise(loc=place, k_intensity=math.log(height))(unit))


class MotionGhostShift(ScannerShift):
    """A patient who moves back and forth: even and odd lines of k-space see the head a twentieth of the picture apart.

    The result is a mixture with the unmoved picture, a fifth more of the ghosts at each step. The seed draws the axis. The
    two places lie evenly about the true one, so that a label stays in the middle. The model is the periodic motion of Wood
    and Henkelman, Med. Phys. 12 (1985), at its fastest.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Mix in the ghosted picture."""
        axis = 1 + int(torch.randint(unit.ndim - 1, (), generator=self.draw()))
        size = unit.shape[axis]
        place = torch.fft.fftfreq(size)
        displacement = 0.025 * size * (1 - 2 * (place * size).round().remainder(2))
        phase = torch.exp(-2j * torch.pi * place * displacement)
        phase = phase.view([-1 if a == axis else 1 for a in range(unit.ndim)]).to(unit.device)
        ghosted = torch.fft.ifft(torch.fft.fft(unit, dim=axis) * phase, dim=axis).abs()
        return unit + 0.2 * self.severity * (ghosted - unit)


class ThickSliceShift(ScannerShift):
    """Slices thicker than the grid: 1 + severity voxels averaged along the last axis, then interpolated back.

    Raises:
        ValueError: when called with an image that is not a volume.
    """

    def shift(self, unit: Tensor) -> Tensor:
        """Average slices."""
        return thick_slices(unit, 1 + self.severity)


MRI_SHIFTS: Shifts = (
    BiasFieldShift,
    ContrastShift,
    BlurNoiseShift,
    RicianNoiseShift,
    GibbsRingingShift,
    SpikeShift,
    MotionGhostShift,
    ThickSliceShift,
)
