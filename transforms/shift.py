"""Simulated scanner shifts, made of MONAI's transforms, with a severity from 1 to 5 and a seed.

Array transforms for images ``(C, *spatial)`` in any intensity unit: strengths are relative to the image's own spread, so
they may stand before or after a z-score. Same seed, same severity, same image: same result. They are simulations of
what scanners do, not of any one scanner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import GaussianSmooth, MapTransform, RandBiasField, RandHistogramShift, RandRicianNoise, Transform
from torch import Tensor

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


class ScannerShiftd(MapTransform):
    """Dictionary form of any `ScannerShift`.

    Raises:
        KeyError: when a key is missing and ``allow_missing_keys`` is False.
    """

    def __init__(self, keys: KeysCollection, shift: ScannerShift, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shift = shift

    def __call__(self, data: dict) -> dict:
        """Shift the images under the keys."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.shift(out[key])
        return out


MRI_SHIFTS: Sequence[type[ScannerShift]] = (BiasFieldShift, ContrastShift, BlurNoiseShift)
