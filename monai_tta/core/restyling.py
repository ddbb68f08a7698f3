"""Change how a window looks but not where anything is, by MONAI's random intensity transforms."""

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
    """Apply a MONAI random transform to each channel by itself, with draws of its own."""

    def __init__(self, transform: RandomizableTransform, prob: float = 1.0) -> None:
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: object = None) -> PerChannel:
        """Seed both the choice to act and the transform's own draws."""
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
    """Run random transforms and give the result the mean and deviation it had before: z-scores stay z-scores."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = Compose(transforms)

    def set_random_state(self, seed: int | None = None, state: object = None) -> KeepMoments:
        """Seed every transform inside."""
        self.transforms.set_random_state(seed=seed)
        return self

    def __call__(self, img: Tensor) -> Tensor:
        """Transform an image ``(C, *spatial)``."""
        return self.keep(self.transforms(img), img)

    def keep(self, out: Tensor, img: Tensor) -> Tensor:
        """Restore what must not change."""
        return (out - out.mean()) / (out.std() + 1e-8) * img.std() + img.mean()


class KeepRange(KeepMoments):
    """Run random transforms and clamp the result to the range it had before: an HU window's limits stay its limits."""

    def keep(self, out: Tensor, img: Tensor) -> Tensor:
        """Restore what must not change."""
        return out.clamp(img.min(), img.max())


def _fundus() -> list[Transform]:
    """GraTa's strong restyling of images in [0, 1], in the paper's order."""
    return [
        RandScaleIntensity(factors=0.5, prob=0.75, channel_wise=True),
        RandScaleIntensityFixedMean(factors=0.5, prob=0.75, fixed_mean=True, preserve_range=True, channel_wise=True),
        PerChannel(RandAdjustContrast(prob=1.0, gamma=(0.5, 2.0), invert_image=True), prob=0.75),
        _Noise(variance=0.05, prob=0.5),
        PerChannel(RandGaussianSmooth(sigma_x=(0.5, 1.5), sigma_y=(0.5, 1.5), sigma_z=(0.5, 1.5), prob=0.5), prob=0.5),
        ScaleIntensity(minv=0.0, maxv=1.0),
    ]


def _mri() -> list[Transform]:
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

    ``style``: "fundus" (images in [0, 1]; GraTa's own set, ends in min-max), "mri" (z-scores: mean and standard
    deviation are kept), "ct" (an HU window: its limits are kept), or "auto", which looks at the window: three channels
    in [0, 1] are "fundus", one or more others in [0, 1] "ct", any other range "mri". Noise of the CT and MRI sets is in
    units of the window's own intensities.
    """

    style: Literal["auto", "fundus", "mri", "ct"] = "auto"

    def __post_init__(self) -> None:
        if self.style not in ("auto", *_SETS):
            raise ValueError(f"style must be 'auto' or one of {sorted(_SETS)}, found {self.style!r}")

    def __call__(self, windows: Tensor, seeds: Sequence[int]) -> Tensor:
        """Restyle windows ``(N, C, *spatial)``, one seed each; the same seed gives the same restyling."""
        out = []
        for window, seed in zip(windows, seeds, strict=True):
            compose = Compose(_SETS[self.of(window)]())
            compose.set_random_state(seed=seed)
            exact = window.float() if window.dtype in (torch.float16, torch.bfloat16) else window.clone()
            # MONAI's transforms give back a MetaTensor, with which a network is several times slower.
            out.append(convert_to_tensor(compose(exact), track_meta=False).to(window))
        return torch.stack(out)

    def of(self, window: Tensor) -> str:
        """The set used for a window ``(C, *spatial)``."""
        if self.style != "auto":
            return self.style
        if window.min() < 0 or window.max() > 1:
            return "mri"
        return "fundus" if len(window) == 3 else "ct"
