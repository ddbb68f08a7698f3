"""Which corrections could be of use to an image: all that its axes, intensities, colours, spacing and borders allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor

from monai_tta.core.geometry import voxel_spacing
from monai_tta.quality.corrections import ChannelOrder, Correction, CropBorder, Intensity, Reorder, ScaledSpacing

HU_OFFSET = 1024.0  # what CT scanners add to Hounsfield units to store them without a sign
_LEVELS = (0.02, 0.5, 0.98)


@dataclass(frozen=True)
class HomeScale:
    """On which scale the source's images are.

    Args:
        intensity: typical values of the 2 %, 50 % and 98 % quantiles of a loaded image.
        spacing: the typical voxel size along the axes nearest to x, y and z; None where images have none.
    """

    intensity: tuple[float, float, float]
    spacing: tuple[float, ...] | None


def home_scale(image: Tensor) -> HomeScale:
    """The scale of one of the source's own images, as loaded."""
    low, middle, high = image_quantiles(image, _LEVELS)
    dims = image.ndim - 1
    own = voxel_spacing(image, dims) if dims == 3 else None
    places = canonical_axes(image)
    spacing = None if own is None else tuple(own[places.index(k)] for k in range(dims))
    return HomeScale((low, middle, high), spacing)


def possible_corrections(image: Tensor, usual: HomeScale | None = None) -> Iterator[Correction]:
    """All corrections that could be of use to an image, none of them judged.

    Args:
        image: as loaded, ``(C, *spatial)``; an ``affine`` is used where there is one.
        usual: the source's intensities and spacing; None leaves out the corrections that need them.
    """
    yield from _reorders(image)
    yield from _intensities(image, usual)
    if len(image) == 3:
        yield ChannelOrder("the colours' order reversed (blue, green, red were taken for red, green, blue)")
    yield from _spacings(image, usual)
    border = _constant_border(image)
    if border is not None:
        yield CropBorder("a constant border cut away (the field of view was padded)", *border)


def image_quantiles(image: Tensor, levels: tuple[float, ...]) -> list[float]:
    """Quantiles of an image, of at most 200,000 of its voxels at even steps."""
    flat = image.detach().float().flatten()
    flat = flat[:: max(1, len(flat) // 200_000)]
    return torch.quantile(torch.as_tensor(flat), torch.tensor(levels, device=flat.device)).tolist()


def axis_letters(image: Tensor) -> list[str]:
    """The direction along which each axis runs: "left-right" and so on; "rows" and "columns" in a picture."""
    affine = getattr(image, "affine", None)
    dims = image.ndim - 1
    if dims == 2:
        return ["left-right", "up-down"]
    if affine is None:
        return [f"axis {k}" for k in range(dims)]
    names = ("left-right", "front-back", "up-down")
    return [names[k] for k in canonical_axes(image)]


def canonical_axes(image: Tensor) -> list[int]:
    """For each axis of the image, which of x, y and z it runs along; each is used once."""
    dims = image.ndim - 1
    affine = getattr(image, "affine", None)
    if affine is None:
        return list(range(dims))
    columns = torch.as_tensor(affine, dtype=torch.float64)[:dims, :dims].abs()
    columns = columns / columns.norm(dim=0).clamp_min(1e-12)
    best = max(permutations(range(dims)), key=lambda order: sum(float(columns[order[k], k]) for k in range(dims)))
    return list(best)


def _reorders(image: Tensor) -> Iterator[Reorder]:
    dims = image.ndim - 1
    names = axis_letters(image)
    same = tuple(range(dims))
    for count in range(1, dims + 1):
        for axes in combinations(range(dims), count):
            words = "mirrored " + " and ".join(names[k] for k in axes)
            if {names[k] for k in axes} == {"left-right", "front-back"}:
                words += " (as when LPS is taken for RAS)"
            elif dims == 2 and count == 2:
                words = "turned by 180 degrees"
            yield Reorder(words, same, axes)
    for order in permutations(range(dims)):
        if order != same:
            yield Reorder(f"axes in the order {', '.join(str(k + 1) for k in order)} (they were permuted)", order, ())
            if dims == 2:
                yield Reorder("turned by a quarter to the one side", order, (0,))
                yield Reorder("turned by a quarter to the other side", order, (1,))
                yield Reorder("mirrored along the other diagonal", order, (0, 1))


def _intensities(image: Tensor, usual: HomeScale | None) -> Iterator[Intensity]:
    low, high = float(image.min()), float(image.max())
    yield Intensity("grey inverted (dark is bright, as MONOCHROME1 is stored)", "inverted", -1.0, low + high)
    yield Intensity(f"{HU_OFFSET:.0f} subtracted (stored values were taken for Hounsfield units)", "minus 1024", 1.0, -HU_OFFSET)
    yield Intensity(f"{HU_OFFSET:.0f} added (the offset was subtracted twice)", "plus 1024", 1.0, HU_OFFSET)
    if usual is None or high <= low:
        return
    own = image_quantiles(image, _LEVELS)
    if own[2] - own[0] <= 1e-6 * max(abs(own[2]), abs(own[0])) or usual.intensity[2] <= usual.intensity[0]:
        return
    span = usual.intensity[2] - usual.intensity[0]
    factor = span / (own[2] - own[0])
    offset = usual.intensity[0] - factor * own[0]
    if 0.5 < factor < 2 and abs(own[0] - usual.intensity[0]) < span / 4:
        return  # the same scale: what is left is brightness and contrast, which adapting is for
    reading = _reading_of_range(image, low, high)
    yield Intensity(f"intensities back on the source's scale ({reading})", reading.split(":")[0], factor, offset)


def _reading_of_range(image: Tensor, low: float, high: float) -> str:
    """Which fault a range of intensities looks like, before a colon, and why."""
    mean, std = float(image.float().mean()), float(image.float().std())
    if low >= -1.01 and high <= 1.01:
        return f"normalised: the image spans {low:.3g} to {high:.3g}"
    if abs(mean) < 0.05 and abs(std - 1) < 0.05:
        return "normalised: the image has mean 0 and standard deviation 1"
    if low >= -0.5 and 128 < high <= 255.5:
        return f"0 to 255: the image spans {low:.3g} to {high:.3g}"
    return f"rescale slope: the image spans {low:.3g} to {high:.3g}"


def _spacings(image: Tensor, usual: HomeScale | None) -> Iterator[ScaledSpacing]:
    dims = image.ndim - 1
    own = voxel_spacing(image, dims)
    if own is None or dims != 3:
        return
    for label, factor, words in (
        ("spacing x 10", 10.0, "spacing ten times as large (cm were taken for mm)"),
        ("spacing / 10", 0.1, "spacing a tenth as large (mm were taken for cm)"),
        ("spacing x 1000", 1000.0, "spacing a thousand times as large (m were taken for mm)"),
    ):
        yield ScaledSpacing(words, label, (factor,) * dims)
    if usual is not None and usual.spacing is not None and max(own) / min(own) < 1.001 and abs(own[0] - 1) < 1e-3:
        wanted = [usual.spacing[k] for k in canonical_axes(image)]
        factors = tuple(w / o for w, o in zip(wanted, own, strict=True))
        if max(abs(f - 1) for f in factors) > 0.02:
            text = " x ".join(f"{w:.3g}" for w in wanted)
            yield ScaledSpacing(f"spacing {text} as at the source (1 x 1 x 1 stands where it was lost)", "spacing lost", factors)


def _constant_border(image: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The box inside the planes that hold nothing but one value, the corner's; None where there are none or nothing is left."""
    plain = torch.as_tensor(image)
    corner = plain.flatten(1)[:, 0].view(-1, *(1,) * (image.ndim - 1))
    differs = (plain != corner).any(0)
    low: list[int] = []
    high: list[int] = []
    for axis in range(differs.ndim):
        others = [k for k in range(differs.ndim) if k != axis]
        filled = torch.as_tensor(differs.any(dim=others[0]) if len(others) == 1 else differs.amax(dim=others)).nonzero()
        if not len(filled):
            return None
        low.append(int(filled[0]))
        high.append(int(filled[-1]) + 1)
    if all(a == 0 and b == n for a, b, n in zip(low, high, differs.shape, strict=True)):
        return None
    return tuple(low), tuple(high)
