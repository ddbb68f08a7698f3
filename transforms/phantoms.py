"""Synthetic CT, MRI and fundus images with exact masks, of any size: for tests, docs and first steps.

They are drawings, not anatomy. They show that a pipeline works, and not how well. A `scanner` changes how an image looks and
never where anything is: the same seed draws the same patient for every scanner. The caller's random generators do not change.

Each function raises ValueError for a wrong number of sides, for sides so short that an organ could fall between the voxels,
and for an unknown scanner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, sin

import torch
from monai.transforms import GaussianSmooth
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Scanner:
    """How a device shows tissue. Strengths are relative to the range of intensities.

    Args:
        gamma: of its contrast.
        gain: of its scale.
        offset: of its scale.
        blur: standard deviation of a Gaussian, in voxels.
        noise: standard deviation.
        field: strength of a slow brightness gradient.
    """

    gamma: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    blur: float = 0.0
    noise: float = 0.02
    field: float = 0.0


SCANNERS = {
    "reference": Scanner(),
    "soft": Scanner(blur=1.0, noise=0.01),
    "noisy": Scanner(noise=0.08),
    "dim": Scanner(gamma=1.6, gain=0.8, offset=0.05, noise=0.03),
    "uneven": Scanner(field=0.6, noise=0.03),
}


@dataclass(frozen=True)
class Phantom:
    """An image ``(C, *spatial)`` and its exact label ``(1 or 2, *spatial)``.

    Args:
        image: ``(C, *spatial)``.
        label: the exact label, ``(1 or 2, *spatial)``.
    """

    image: Tensor
    label: Tensor


def ct_phantom(size: Sequence[int] = (64, 64, 32), seed: int = 0, scanner: str | Scanner = "reference") -> Phantom:
    """An abdomen: air, a body of soft tissue, a liver (1), a spleen (2) and a spine, in HU, ``(1, x, y, z)``.

    Nothing is below -1024 HU, as in a scanner's files.

    Args:
        size: voxels along each axis, or height and width in pixels.
        seed: of anatomy and noise.
        scanner: how it is seen, a `Scanner` or a name in `SCANNERS`.
    """
    draw, grid = _start(size, (0.2, 0.18, 0.36), seed)
    hu = torch.full(tuple(size), -1000.0)
    hu[_ball(grid, (0, 0, 0), (0.9, 0.75, 5))] = -80 + draw(20)
    hu[_ball(grid, (0, 0.05, 0), (0.8, 0.62, 5))] = 30 + draw(10)
    hu[_ball(grid, (0, -0.5, 0), (0.14, 0.14, 5))] = 400 + draw(100)
    label = torch.zeros(tuple(size))
    for number, side, radius, value in ((1, 0.4, 0.34, 100), (2, -0.5, 0.2, 120)):
        place = (side + draw(0.05), 0.05 + draw(0.05), draw(0.2))
        organ = _ball(grid, place, (radius, radius * 0.9, radius * 1.8))
        hu[organ], label[organ] = value + draw(10), number
    unit = (hu + 1000) / 1600
    return Phantom((_scan(unit[None], seed, scanner) * 1600 - 1000).clamp_min(-1024), label[None])


def mri_phantom(size: Sequence[int] = (48, 48, 48), seed: int = 0, scanner: str | Scanner = "reference") -> Phantom:
    """A head, T1-like: skull, grey and white matter, ventricles, and a pair of nuclei (1), in arbitrary units.

    Magnitudes, as MRI shows them: noise in air is folded to above zero.

    Args:
        size: voxels along each axis, or height and width in pixels.
        seed: of anatomy and noise.
        scanner: how it is seen, a `Scanner` or a name in `SCANNERS`.
    """
    draw, grid = _start(size, (0.17, 0.26, 0.17), seed)
    t1 = torch.zeros(tuple(size))
    for radius, value in ((0.92, 0.8), (0.85, 0.15), (0.8, 0.5), (0.66, 0.75)):
        t1[_ball(grid, (0, 0, 0), (radius * 0.9, radius, radius * 0.95))] = value
    label = torch.zeros(tuple(size))
    for side in (-1, 1):
        t1[_ball(grid, (side * 0.14, 0.05, 0.1), (0.08, 0.3, 0.14))] = 0.15
        place = (side * (0.36 + draw(0.04)), draw(0.08), -0.1 + draw(0.05))
        nucleus = _ball(grid, place, (0.17, 0.26, 0.17))
        t1[nucleus], label[nucleus] = 0.48 + draw(0.02), 1
    return Phantom((_scan(t1[None], seed, scanner) * 900).abs(), label[None])


def fundus_phantom(size: Sequence[int] = (128, 128), seed: int = 0, scanner: str | Scanner = "reference") -> Phantom:
    """A retina in colour, values in [0, 1], with a disc and a cup as two nested channels.

    Args:
        size: voxels along each axis, or height and width in pixels.
        seed: of anatomy and noise.
        scanner: how it is seen, a `Scanner` or a name in `SCANNERS`.
    """
    draw, grid = _start(size, (0.08, 0.072), seed)
    view = _ball(grid, (0, 0), (0.95, 0.95))
    colour = torch.zeros(3, *size)
    colour[:, view] = torch.tensor([0.65, 0.3, 0.15])[:, None]
    place = (draw(0.15), 0.45 + draw(0.1))
    for k in range(6):  # vessels leave the disc along parabolas
        bend, width = draw(0.8), 0.012 + 0.004 * k
        path = place[0] + bend * (grid[1] - place[1]) ** 2 + (k - 2.5) * 0.15 * (grid[1] - place[1])
        colour[:, view & ((grid[0] - path).abs() < width)] = torch.tensor([0.4, 0.12, 0.08])[:, None]
    radius = 0.18 + draw(0.02)
    disc, cup = _ball(grid, place, (radius, radius * 0.95)), _ball(grid, place, (radius * 0.5, radius * 0.45))
    colour[:, disc] = torch.tensor([0.9, 0.65, 0.4])[:, None]
    colour[:, cup] = torch.tensor([1.0, 0.9, 0.7])[:, None]
    image = _scan(colour, seed, scanner).clamp(0, 1) * view
    return Phantom(image, torch.stack([disc | cup, cup]).float())


def headneck_phantom(size: Sequence[int] = (64, 64, 32), seed: int = 0, scanner: str | Scanner = "reference") -> Phantom:
    """A head and neck in two registered CT series, without and with contrast, in HU, ``(2, x, y, z)``.

    The label is SegRap2023's two maps, parts 1 to 54 and tumours 1 and 2: blocks side by side, left ones at low x, which is the
    patient's left in RAS. All parts are there. Contrast brightens the tumours and, by a little, all soft tissue.

    Args:
        size: voxels along each axis, or height and width in pixels.
        seed: of anatomy and noise.
        scanner: how it is seen, a `Scanner` or the name of one: "reference" or "other".
    """
    sides = (0.16, 0.13, 0.16)  # half of a block's
    draw, grid = _start(size, sides, seed)
    hu = torch.full(tuple(size), -1000.0)
    hu[_ball(grid, (0, 0, 0), (0.95, 0.95, 5))] = 40.0
    parts, tumours = torch.zeros(2, *size)
    parts[_ball(grid, (0, 0, 0.72), (0.8, 0.8, 0.26))] = 1
    midline = (2, 3, 34, 35, 46, 47, 48, 49, 50, 51, 52, 53, 54)
    left = tuple(n for n in range(4, 46, 2) if n not in midline)
    rows, columns = 5, 4
    for numbers, centre in ((midline, 0.0), (left, -0.42), (tuple(n + 1 for n in left), 0.42)):
        for place, number in enumerate(numbers):
            at = (centre, -0.6 + 1.2 * (place % rows) / (rows - 1), -0.8 + 1.15 * (place // rows) / (columns - 1))
            block = torch.stack([(g - a).abs() / r for g, a, r in zip(grid, at, sides, strict=True)]).amax(0) <= 1
            parts[block] = number
    for number, at in ((1, (0.1, 0.15, -0.3)), (2, (-0.4, 0.3, -0.6))):
        tumours[_ball(grid, [a + draw(0.1) for a in at], (0.2, 0.2, 0.25))] = number
    inside = parts > 0
    hu[inside] = 20 + 37 * (parts[inside] * 7 % 11) + draw(10)  # neighbours differ, both sides are alike
    series = torch.stack([hu, hu + 60 * (tumours > 0) + 15 * (hu > 0)])
    unit = (series + 1000) / 1600
    return Phantom((_scan(unit, seed, scanner) * 1600 - 1000).clamp_min(-1024), torch.stack([parts, tumours]))


def lesion_phantom(size: Sequence[int] = (128, 128), seed: int = 0, scanner: str | Scanner = "reference") -> Phantom:
    """Mucosa in colour, values in [0, 1], uneven and folded, with one lesion.

    The lesion's size (a hundredth to a third of the image) and contrast differ much from image to image, which makes it hard to
    segment.

    Args:
        size: voxels along each axis, or height and width in pixels.
        seed: of anatomy and noise.
        scanner: how it is seen, a `Scanner` or a name in `SCANNERS`.
    """
    draw, grid = _start(size, (0.1, 0.1), seed)
    generator = torch.Generator().manual_seed(seed + 10_000)

    def texture(cells: int) -> Tensor:
        coarse = torch.randn(1, 1, cells, cells, generator=generator)
        return interpolate(coarse, tuple(size), mode="bicubic", align_corners=False)[0, 0]

    radius, angle = 0.35 + draw(0.25), draw(3.14)
    centre, stretch = (draw(0.6), draw(0.6)), 1 + draw(0.25)
    along = (grid[0] - centre[0]) * cos(angle) + (grid[1] - centre[1]) * sin(angle)
    across = (grid[1] - centre[1]) * cos(angle) - (grid[0] - centre[0]) * sin(angle)
    depth = 1 - ((along / stretch) ** 2 + (across * stretch) ** 2).sqrt() / radius * (1 + 0.08 * texture(6))
    colour = torch.tensor([0.7, 0.4, 0.35]) + 0.08 * torch.randn(3, generator=generator)
    image = colour.view(3, 1, 1) + 0.05 * texture(10) + 0.03 * texture(40)
    image = image + torch.sigmoid(12 * depth) * torch.tensor([1.0, 0.3, 0.1]).view(3, 1, 1) * (0.2 + draw(0.1))
    for _ in range(3):
        direction = draw(3.14)
        width = 0.08 + draw(0.05)
        fold = (grid[0] * cos(direction) + grid[1] * sin(direction) - draw(1.0)) / width
        image = image + draw(0.12) * torch.exp(-(fold**2))
    image = image * (1 - (0.15 + draw(0.1)) * ((grid[0] - draw(0.4)) ** 2 + (grid[1] - draw(0.4)) ** 2))
    return Phantom(_scan(image, seed, scanner).clamp(0, 1), (depth > 0).float()[None])


def _start(size: Sequence[int], radii: Sequence[float], seed: int) -> tuple[Callable[[float], float], tuple[Tensor, ...]]:
    """A function that draws a random number in [-spread, spread], and coordinates in [-1, 1] along each axis.

    ``radii`` are those of the smallest organ, which must not fall between voxels.
    """
    if len(size) != len(radii) or min(size) < 8:
        raise ValueError(f"size needs {len(radii)} sides of at least 8 voxels, found {tuple(size)}")
    # Some voxel's centre is within half a voxel of the organ's centre along each axis.
    if sum((1 / (n - 1) / r) ** 2 for n, r in zip(size, radii, strict=True)) >= 1:
        raise ValueError(f"size {tuple(size)} is too coarse: the smallest organ could fall between voxels; give more voxels")
    generator = torch.Generator().manual_seed(seed)

    def draw(spread: float) -> float:
        return float(torch.rand((), generator=generator) * 2 - 1) * spread

    return draw, torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")


def _ball(grid: Sequence[Tensor], centre: Sequence[float], radii: Sequence[float]) -> Tensor:
    """The mask of an ellipse or ellipsoid."""
    return torch.stack([((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)]).sum(0) < 1


def _scan(unit: Tensor, seed: int, scanner: str | Scanner) -> Tensor:
    """An image with intensities in [0, 1], as a scanner shows it."""
    if isinstance(scanner, str):
        if scanner not in SCANNERS:
            raise ValueError(f"no scanner {scanner!r}; choose one of {', '.join(SCANNERS)} or give a Scanner")
        scanner = SCANNERS[scanner]
    out = unit.clamp(0, 1) ** scanner.gamma * scanner.gain + scanner.offset
    if scanner.blur:
        out = torch.as_tensor(GaussianSmooth(sigma=scanner.blur)(out))
    ramp = torch.linspace(-0.5, 0.5, out.shape[1]).view(-1, *[1] * (out.ndim - 2))
    generator = torch.Generator().manual_seed(seed + 1)
    return out * (1 + scanner.field * ramp) + scanner.noise * torch.randn(out.shape, generator=generator)
