"""Foreign scanners made up from the source's own images: what a judge is calibrated on.

Distortions act on what the network is given, after a bundle's preprocessing, so that they fit any bundle, 2D or 3D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.transforms import AdjustContrast, Affine, GaussianSmooth
from monai.utils import convert_to_tensor
from torch import Tensor

Draw = Callable[[float, float], float]


def _bare(x: object) -> Tensor:
    """Without meta data, with which networks are several times slower."""
    plain: Tensor = convert_to_tensor(x, track_meta=False)
    return plain


def _gain(x: Tensor, draw: Draw) -> Tensor:
    """Each channel by a factor of its own."""
    return x * torch.tensor([draw(0.5, 1.6) for _ in x]).view(-1, *[1] * (x.ndim - 1))


def _contrast(x: Tensor, draw: Draw) -> Tensor:
    """Nearer to the mean, or further from it."""
    return (x - x.mean()) * draw(0.4, 1.6) + x.mean()


def _gamma(x: Tensor, draw: Draw) -> Tensor:
    """Darker or brighter middle tones, the ends as they were."""
    return _bare(AdjustContrast(2 ** draw(-1.2, 1.2))(x))


def _noise(x: Tensor, draw: Draw) -> Tensor:
    """Grain of up to a sixth of the range."""
    generator = torch.Generator().manual_seed(int(draw(0, 2**31)))
    return x + draw(0.01, 0.16) * _range(x) * torch.randn(x.shape, generator=generator)


def _blur(x: Tensor, draw: Draw) -> Tensor:
    """Out of focus, by up to a seventieth of the shortest side."""
    return _bare(GaussianSmooth(sigma=draw(0.3, max(0.8, min(x.shape[1:]) / 70)))(x))


def _light(x: Tensor, draw: Draw) -> Tensor:
    """Brighter on one side than on the other, in any direction."""
    ramp = torch.zeros(x.shape[1:])
    for axis, size in enumerate(x.shape[1:]):
        line = torch.linspace(-1, 1, size).view(*[-1 if a == axis else 1 for a in range(x.ndim - 1)])
        ramp = ramp + draw(-0.6, 0.6) * line
    floor = x.min()
    return (x - floor) * (1 + ramp) + floor


def _remap(x: Tensor, draw: Draw) -> Tensor:
    """Another scale of grey: five stretches of the range made longer or shorter, their order kept."""
    low, high, n = x.min(), x.max(), 5
    lengths = torch.tensor([draw(0.05, 1.0) for _ in range(n)])
    ends = torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    at = ((x - low) / (high - low + 1e-8)).clamp(0, 1) * n
    k = at.long().clamp(max=n - 1)
    return (ends[k] + (at - k) * (ends[k + 1] - ends[k])) * (high - low) + low


FAMILIES: dict[str, Callable[[Tensor, Draw], Tensor]] = {
    "gain": _gain,
    "contrast": _contrast,
    "gamma": _gamma,
    "noise": _noise,
    "blur": _blur,
    "light": _light,
    "remap": _remap,
}


def _range(x: Tensor) -> float:
    return float(x.max() - x.min())


@dataclass(frozen=True)
class Distortion:
    """Show an image and its label as another scanner might: another field of view, then up to ``most`` of `FAMILIES`.

    Args:
        keep: what a bundle's normalisation would restore: "range" (clamped to where the image was), or "moments" (mean and
            standard deviation, for z-scores).
        families: those to draw from.
        most: how many at most act on one image; each number from none on is as likely.
    """

    keep: str = "range"
    families: tuple[str, ...] = tuple(FAMILIES)
    most: int = 4

    def __post_init__(self) -> None:
        if self.keep not in ("range", "moments"):
            raise ValueError(f"keep must be 'range' or 'moments', found {self.keep!r}")
        if unknown := set(self.families) - set(FAMILIES):
            raise ValueError(f"no distortion {sorted(unknown)}; there are {', '.join(FAMILIES)}")

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Distort an image ``(C, *spatial)`` and its label ``(K, *spatial)``; the same seed distorts the same way."""
        generator = torch.Generator().manual_seed(seed)

        def draw(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        image, label = _framed(image, label, draw)
        order = torch.randperm(len(self.families), generator=generator).tolist()
        low, high, mean, std = image.min(), image.max(), image.mean(), image.std()
        for k in order[: int(draw(0, min(self.most, len(order)) + 1))]:
            image = FAMILIES[self.families[k]](image, draw)
            image = image.clamp(low, high) if self.keep == "range" else (image - image.mean()) / (image.std() + 1e-8) * std + mean
        return image, label


def _framed(image: Tensor, label: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Nearer or further, and aside, in the same number of voxels."""
    spatial = image.ndim - 1
    zoom = draw(0.75, 1.25)
    aside = [draw(-0.1, 0.1) * size for size in image.shape[1:]]
    move = Affine(scale_params=[zoom] * spatial, translate_params=aside, padding_mode="border", image_only=True)
    both = (move(image, mode="bilinear"), move(label, mode="nearest"))
    return _bare(both[0]), _bare(both[1])
