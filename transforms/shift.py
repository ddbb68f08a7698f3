"""Simulated scanner shifts for MRI, made of MONAI's transforms, with a severity from 1 to 5 and a seed.

Array transforms for images ``(C, *spatial)`` in any intensity unit: strengths are relative to the image's own spread, so
they may stand before or after a z-score. Same seed, same severity, same image: same result. They are simulations of
what scanners do, not of any one scanner. CT and fundus have theirs in `shift_ct` and `shift_fundus`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import GaussianSmooth, GibbsNoise, RandBiasField, RandHistogramShift, RandRicianNoise, Transform
from torch import Tensor

from monai_tta.transforms.keyed import KeyedTransform

SEVERITIES = (1, 2, 3, 4, 5)


class ScannerShift(Transform):
    """A fixed change of an image's look: subclasses say how, ``severity`` how much (1 mild, 5 extreme).

    Raises:
        ValueError: when the severity is not 1, 2, 3, 4 or 5.
    """

    def __init__(self, severity: int = 3, seed: int = 0) -> None:
        if severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {SEVERITIES}, found {severity!r}")
        self.severity, self.seed = severity, seed

    def __call__(self, img: Tensor) -> Tensor:
        """Return the shifted image, of the same shape, on the scale of the given one."""
        unit = torch.as_tensor(img, dtype=torch.float32)
        low, high = unit.min(), unit.max()
        if not high > low:
            return img
        out = self.shift((unit - low) / (high - low))
        return torch.as_tensor(out) * (high - low) + low

    def seeded(self, transform: Any) -> Any:
        """A MONAI random transform with its state set."""
        transform.set_random_state(seed=self.seed)
        return transform

    def shift(self, unit: Tensor) -> Tensor:
        """Change an image whose intensities span [0, 1]."""
        raise NotImplementedError


class BiasFieldShift(ScannerShift):
    """A smooth multiplicative coil sensitivity (`monai.transforms.RandBiasField`), coefficients up to 0.06 per step."""

    def shift(self, unit: Tensor) -> Tensor:
        """Multiply by ``exp`` of a random polynomial of degree 3."""
        top = 0.06 * self.severity
        field = self.seeded(RandBiasField(degree=3, coeff_range=(0.5 * top, top), prob=1.0))
        return torch.as_tensor(field(unit))


class ContrastShift(ScannerShift):
    """Another pulse sequence: a random remapping of intensities (`monai.transforms.RandHistogramShift`)."""

    def shift(self, unit: Tensor) -> Tensor:
        """Mix the image with its remapped self, more of it at each step."""
        remap = self.seeded(RandHistogramShift(num_control_points=6, prob=1.0))
        share = min(1.0, 0.2 + 0.2 * self.severity)
        return (1 - share) * unit + share * torch.as_tensor(remap(unit)).clamp(0, 1) ** (1 + 0.5 * self.severity)


class BlurNoiseShift(ScannerShift):
    """A thicker point spread and a lower field: Gaussian blur of 0.25 voxels and Rician noise of 2 % per step."""

    def shift(self, unit: Tensor) -> Tensor:
        """Blur, then add Rician noise."""
        smooth = GaussianSmooth(sigma=0.25 * self.severity)(unit)
        noise = self.seeded(RandRicianNoise(prob=1.0, std=0.02 * self.severity, sample_std=False))
        return torch.as_tensor(noise(smooth))


class GibbsRingingShift(ScannerShift):
    """A truncated k-space: ripples beside edges (`monai.transforms.GibbsNoise`)."""

    def shift(self, unit: Tensor) -> Tensor:
        """Keep less of k-space at each step; nothing is drawn at random."""
        return torch.as_tensor(GibbsNoise(alpha=0.35 + 0.1 * self.severity)(unit))


class SpikeShift(ScannerShift):
    """A spark in the receive chain: one bright point of k-space, hence stripes over the picture."""

    def shift(self, unit: Tensor) -> Tensor:
        """Add a plane wave of a random direction, 3 % of the image's range per step.

        The wave is what the Fourier transform makes of one spike (as in `monai.transforms.KSpaceSpikeNoise`, whose
        intensities are logarithms of an image's own k-space and cannot be graded across images).
        """
        generator = torch.Generator().manual_seed(self.seed)
        grid = torch.meshgrid(*[torch.linspace(0, 1, n) for n in unit.shape[1:]], indexing="ij")
        turns = [float(torch.rand((), generator=generator)) * 16 + 4 for _ in grid]
        wave = torch.cos(2 * torch.pi * torch.stack([t * g for t, g in zip(turns, grid, strict=True)]).sum(0))
        return unit + 0.03 * self.severity * wave.to(unit)


class MotionGhostShift(ScannerShift):
    """A patient who breathes: every second line of k-space is measured a twentieth of the picture further along."""

    def shift(self, unit: Tensor) -> Tensor:
        """Mix in the ghosted picture, a fifth more at each step; the axis is drawn by the seed."""
        spatial = list(range(1, unit.ndim))
        generator = torch.Generator().manual_seed(self.seed)
        axis = spatial[int(torch.randint(len(spatial), (), generator=generator))]
        lines = torch.fft.fft(unit, dim=axis)
        place = torch.fft.fftfreq(unit.shape[axis])
        moved = torch.exp(-2j * torch.pi * place * 0.05 * unit.shape[axis])
        every_second = torch.arange(unit.shape[axis]) % 2 == 0
        phase = torch.where(every_second, moved, torch.ones_like(moved))
        phase = phase.view([-1 if a == axis else 1 for a in range(unit.ndim)]).to(unit.device)
        ghosted = torch.fft.ifft(lines * phase, dim=axis).abs()
        return unit + 0.2 * self.severity * (ghosted - unit)


class ThickSliceShift(ScannerShift):
    """Slices thicker than the grid: averaged along the last axis, then interpolated back."""

    def shift(self, unit: Tensor) -> Tensor:
        """Slices of 1 + severity voxels."""
        return thick_slices(unit, 1 + self.severity)


def thick_slices(img: Tensor, thickness: int) -> Tensor:
    """Average ``thickness`` neighbours along the last axis and interpolate back to the same grid."""
    flat = img.reshape(1, -1, img.shape[-1])
    coarse = F.avg_pool1d(flat, thickness, ceil_mode=True, count_include_pad=False)
    return F.interpolate(coarse, size=img.shape[-1], mode="linear", align_corners=False).reshape(img.shape)


class ScannerShiftd(KeyedTransform):
    """Dictionary form of any `ScannerShift`; labels under other keys stay as they are.

    Raises:
        KeyError: when a key is missing and ``allow_missing_keys`` is False.
    """

    def __init__(self, keys: KeysCollection, shift: ScannerShift, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, shift, allow_missing_keys)


MRI_SHIFTS: Sequence[type[ScannerShift]] = (
    BiasFieldShift,
    ContrastShift,
    BlurNoiseShift,
    GibbsRingingShift,
    SpikeShift,
    MotionGhostShift,
    ThickSliceShift,
)
