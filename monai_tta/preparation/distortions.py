"""Simulate other scanners on the source's own labelled images: what a gain predictor is calibrated on.

Distortions act on what the network is given, after a bundle's preprocessing, so that they fit any bundle, 2D or 3D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.transforms import AdjustContrast, Affine, GaussianSmooth
from monai.utils import convert_to_tensor
from torch import Tensor

Draw = Callable[[float, float], float]  # a random number between two


def _without_meta_data(x: object) -> Tensor:
    """A plain tensor: with meta data networks are several times slower."""
    plain: Tensor = convert_to_tensor(x, track_meta=False)
    return plain


def _gain(x: Tensor, draw: Draw) -> Tensor:
    """Multiply each channel by a factor of its own."""
    return x * torch.tensor([draw(0.5, 1.6) for _ in x]).view(-1, *[1] * (x.ndim - 1))


def _contrast(x: Tensor, draw: Draw) -> Tensor:
    """Move values nearer to the mean, or further from it."""
    return (x - x.mean()) * draw(0.4, 1.6) + x.mean()


def _gamma(x: Tensor, draw: Draw) -> Tensor:
    """Make the middle of the range darker or brighter; its ends stay."""
    return _without_meta_data(AdjustContrast(2 ** draw(-1.2, 1.2))(x))


def _noise(x: Tensor, draw: Draw) -> Tensor:
    """Add noise whose standard deviation is up to a sixth of the range."""
    generator = torch.Generator().manual_seed(int(draw(0, 2**31)))
    return x + draw(0.01, 0.16) * _range(x) * torch.randn(x.shape, generator=generator)


def _blur(x: Tensor, draw: Draw) -> Tensor:
    """Blur by a Gaussian of up to a seventieth of the shortest side, or 0.8 voxels."""
    return _without_meta_data(GaussianSmooth(sigma=draw(0.3, max(0.8, min(x.shape[1:]) / 70)))(x))


def _light(x: Tensor, draw: Draw) -> Tensor:
    """Make one side brighter than the other, in any direction."""
    ramp = torch.zeros(x.shape[1:])
    for axis, size in enumerate(x.shape[1:]):
        line = torch.linspace(-1, 1, size).view(*[-1 if a == axis else 1 for a in range(x.ndim - 1)])
        ramp = ramp + draw(-0.6, 0.6) * line
    low = x.min()
    return (x - low) * (1 + ramp) + low


def _remap(x: Tensor, draw: Draw) -> Tensor:
    """Stretch some fifths of the range and squeeze others; the order of values stays."""
    low, high = x.min(), x.max()
    n = 5
    lengths = torch.tensor([draw(0.05, 1.0) for _ in range(n)])
    ends = torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    place = ((x - low) / (high - low + 1e-8)).clamp(0, 1) * n
    part = place.long().clamp(max=n - 1)
    return (ends[part] + (place - part) * (ends[part + 1] - ends[part])) * (high - low) + low


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
        preserve: what the bundle's normalisation would restore. "range" clamps values to the range they had; "moments" restores
            mean and standard deviation, for z-scores.
        families: names of those to draw from.
        most: how many act on one image at most. Each number from 0 on is equally likely.

    Raises:
        ValueError: for another ``preserve``, or an unknown family.
    """

    preserve: str = "range"
    families: tuple[str, ...] = tuple(FAMILIES)
    most: int = 4

    def __post_init__(self) -> None:
        if self.preserve not in ("range", "moments"):
            raise ValueError(f"preserve must be 'range' or 'moments', found {self.preserve!r}")
        if unknown := set(self.families) - set(FAMILIES):
            raise ValueError(f"no distortion {sorted(unknown)}; there are {', '.join(FAMILIES)}")

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Distort an image ``(C, *spatial)`` and its label ``(K, *spatial)``. The same seed distorts the same way.

        Args:
            image: in the units that the network takes.
            label: one channel per structure.
            seed: of all draws.
        """
        draw, generator = _seeded(seed)
        image, label = _reframe(image, label, draw)
        return self._change_look(image, draw, generator), label

    def look(self, image: Tensor, seed: int) -> Tensor:
        """Change how an image ``(C, *spatial)`` looks and not where anything is, so without another field of view.

        Args:
            image: in the units that the network takes.
            seed: of all draws.
        """
        return self._change_look(image, *_seeded(seed))

    def _change_look(self, image: Tensor, draw: Draw, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(self.families), generator=generator).tolist()
        low, high = image.min(), image.max()
        mean, std = image.mean(), image.std()
        for number in order[: int(draw(0, min(self.most, len(order)) + 1))]:
            image = FAMILIES[self.families[number]](image, draw)
            if self.preserve == "range":
                image = image.clamp(low, high)
            else:
                image = (image - image.mean()) / (image.std() + 1e-8) * std + mean
        return image


def _seeded(seed: int) -> tuple[Draw, torch.Generator]:
    """Draws of numbers between two, and the generator that they come from."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    return draw, generator


def _reframe(image: Tensor, label: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Zoom in or out and shift the picture, with the same number of voxels."""
    zoom = draw(0.75, 1.25)
    shift = [draw(-0.1, 0.1) * size for size in image.shape[1:]]
    move = Affine(scale_params=[zoom] * (image.ndim - 1), translate_params=shift, padding_mode="border", image_only=True)
    return _without_meta_data(move(image, mode="bilinear")), _without_meta_data(move(label, mode="nearest"))
