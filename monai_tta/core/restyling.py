"""Restyling: change how a window looks but not where anything is, by MONAI's random intensity transforms.

All random draws come from a seed, so the same seed restyles the same window in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    Randomizable,
    RandomizableTransform,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    ScaleIntensity,
    Transform,
)
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = ["Restyling", "PerChannel", "KeepMoments", "KeepRange"]


class PerChannel(RandomizableTransform):
    """Apply a MONAI random transform to each channel with draws of its own.

    Args:
        transform: of an image ``(1, *spatial)``.
        prob: probability of doing so, in [0, 1].
    """

    def __init__(self, transform: RandomizableTransform, prob: float = 1.0) -> None:
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: object = None) -> PerChannel:
        """Seed this transform and the one inside."""
        super().set_random_state(seed=seed)
        self.transform.set_random_state(seed=None if seed is None else (seed + 1) % 2**32)
        return self

    def __call__(self, img: Tensor) -> Tensor:
        """Transform an image ``(C, *spatial)``."""
        self.randomize(None)
        if not self._do_transform:
            return img
        return torch.cat([self.transform(channel) for channel in img.split(1)])


class KeepMoments(Randomizable, Transform):
    """Run transforms, then give the image back the mean and standard deviation that it had, so z-scores stay z-scores.

    Args:
        transforms: MONAI transforms of an image ``(C, *spatial)``, run in this order.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = Compose(transforms)

    def set_random_state(self, seed: int | None = None, state: object = None) -> KeepMoments:
        """Seed all transforms inside."""
        self.transforms.set_random_state(seed=seed)
        return self

    def __call__(self, img: Tensor) -> Tensor:
        """Transform an image ``(C, *spatial)``."""
        return self.keep(self.transforms(img), img)

    def keep(self, out: Tensor, img: Tensor) -> Tensor:
        """``out`` with the mean and standard deviation of ``img``."""
        return (out - out.mean()) / (out.std() + 1e-8) * img.std() + img.mean()


class KeepRange(KeepMoments):
    """Run transforms, then clamp the image to the range that it had, so an HU window keeps its limits.

    Args:
        transforms: MONAI transforms of an image ``(C, *spatial)``, run in this order.
    """

    def keep(self, out: Tensor, img: Tensor) -> Tensor:
        """``out``, clamped to the range of ``img``."""
        return out.clamp(img.min(), img.max())


def _fundus() -> list[Transform]:
    """GraTa's strong augmentation of images in [0, 1], in the paper's order."""
    return [
        RandScaleIntensity(factors=0.5, prob=0.75, channel_wise=True),
        RandScaleIntensityFixedMean(factors=0.5, prob=0.75, fixed_mean=True, preserve_range=True, channel_wise=True),
        PerChannel(RandAdjustContrast(prob=1.0, gamma=(0.5, 2.0), invert_image=True), prob=0.75),
        _Noise(variance=0.05, prob=0.5),
        PerChannel(RandGaussianSmooth(sigma_x=(0.5, 1.5), sigma_y=(0.5, 1.5), sigma_z=(0.5, 1.5), prob=0.5), prob=0.5),
        ScaleIntensity(minv=0.0, maxv=1.0),
    ]


def _mri() -> list[Transform]:
    """Bias field, contrast, noise and blur, for z-scores."""
    return [
        KeepMoments(
            [
                RandBiasField(prob=0.5, coeff_range=(0.0, 0.2)),
                RandAdjustContrast(prob=0.75, gamma=(0.6, 1.7)),
                RandGaussianNoise(prob=0.5, std=0.1),
                RandGaussianSmooth(sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0), sigma_z=(0.3, 1.0), prob=0.5),
            ]
        )
    ]


def _ct() -> list[Transform]:
    """Intensity, contrast, noise and blur, for an HU window."""
    return [
        KeepRange(
            [
                RandScaleIntensityFixedMean(factors=0.2, prob=0.5, fixed_mean=True, preserve_range=True),
                RandAdjustContrast(prob=0.5, gamma=(0.8, 1.25)),
                RandGaussianNoise(prob=0.5, std=0.03),
                RandGaussianSmooth(sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0), sigma_z=(0.3, 1.0), prob=0.5),
            ]
        )
    ]


class _Noise(RandomizableTransform):
    """Gaussian noise whose *variance* is uniform in [0, ``variance``], by MONAI's `RandGaussianNoise`."""

    def __init__(self, variance: float, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        self.variance = variance

    def __call__(self, img: Tensor) -> Tensor:
        self.randomize(None)
        if not self._do_transform:
            return img
        noise = RandGaussianNoise(prob=1.0, std=float(self.R.uniform(0, self.variance)) ** 0.5, sample_std=False)
        noise.set_random_state(seed=int(self.R.randint(2**31)))
        return torch.as_tensor(noise(img))


_SETS = {"fundus": _fundus, "mri": _mri, "ct": _ct}


@dataclass(frozen=True)
class Restyling:
    """Change how a window looks but not where anything is, by MONAI's random intensity transforms.

    Noise in the sets for CT and MRI is in units of the window's own intensities.

    Args:
        style: which set of transforms. "fundus" is GraTa's own, for images in [0, 1]; it ends by scaling to [0, 1]. "mri" is for
            z-scores and keeps mean and standard deviation. "ct" is for an HU window and keeps its limits. "auto" chooses for each
            window: "fundus" for three channels in [0, 1], "ct" for other channels in [0, 1], "mri" for any other range.

    Raises:
        ValueError: for another style.
    """

    style: Literal["auto", "fundus", "mri", "ct"] = "auto"

    def __post_init__(self) -> None:
        if self.style not in ("auto", *_SETS):
            raise ValueError(f"style must be 'auto' or one of {sorted(_SETS)}, found {self.style!r}")

    def __call__(self, windows: Tensor, seeds: Sequence[int]) -> Tensor:
        """Restyle windows ``(N, C, *spatial)``, each by its own seed. Shape and dtype stay."""
        out = []
        for window, seed in zip(windows, seeds, strict=True):
            transforms = Compose(_SETS[self.of(window)]())
            transforms.set_random_state(seed=seed)
            exact = window.float() if window.dtype in (torch.float16, torch.bfloat16) else window.clone()
            # MONAI's transforms return a MetaTensor, and networks are several times slower with these.
            out.append(convert_to_tensor(transforms(exact), track_meta=False).to(window))
        return torch.stack(out)

    def of(self, window: Tensor) -> str:
        """The style for a window ``(C, *spatial)``: "fundus", "mri" or "ct"."""
        if self.style != "auto":
            return self.style
        if window.min() < 0 or window.max() > 1:
            return "mri"
        return "fundus" if len(window) == 3 else "ct"
