"""A square around the optic disc, found by its mask or by its brightness."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, GaussianSmooth, InvertibleTransform, LazyTransform, MapTransform, Pad
from torch import Tensor


def disc_centre(img: Tensor, blur: float = 0.02) -> tuple[int, int]:
    """Where the optic disc most likely is: the brightest spot of the blurred photograph.

    This is a first guess. Of 20 photographs of IDRiD (Porwal et al. 2018) it lay inside the disc in 19.

    Args:
        img: a photograph ``(C, H, W)``.
        blur: standard deviation as a share of the longer side.

    Returns:
        row and column.
    """
    light = torch.as_tensor(img).float().sum(0, keepdim=True)
    smooth = torch.as_tensor(GaussianSmooth(sigma=max(1.0, blur * max(light.shape[1:])))(light))[0]
    place = int(smooth.argmax())
    return place // smooth.shape[1], place % smooth.shape[1]


class CropAroundDisc(InvertibleTransform, LazyTransform):
    """Crop a square around the optic disc from a photograph or mask, inside the picture where the square fits.

    Args:
        size: side of the square in pixels; smaller pictures are padded with zeros. 512 if no margin is given either.
        margin: in place of a size, how much to leave on each side of the disc's mask, as a share of its longer side.
        lazy: whether to leave the crop pending, as MONAI's lazy transforms do. Transforms before it are executed, because the
            disc has to be found.

    Raises:
        ValueError: when both are given, or one is out of range.
    """

    def __init__(self, size: int | None = None, margin: float | None = None, lazy: bool = False) -> None:
        LazyTransform.__init__(self, lazy)
        if size is not None and margin is not None:
            raise ValueError(f"the square has a size or a margin around the disc, not both; found {size} and {margin}")
        if size is not None and size < 1:
            raise ValueError(f"size is a side in pixels, found {size}")
        if margin is not None and not 0 <= margin < math.inf:
            raise ValueError(f"margin is a share of the disc, 0 or more, found {margin}")
        self.size, self.margin = 512 if size is None and margin is None else size, margin
        self.crop, self.pad = Crop(), Pad()

    @property
    def requires_current_data(self) -> bool:
        """True: pending transforms are executed first, and the disc is then found in their result."""
        return True

    def __call__(self, img: Tensor, source: Tensor | None = None, name: str = "source", lazy: bool | None = None) -> Tensor:
        """Crop a picture ``(C, H, W)``.

        Args:
            img: what to crop.
            source: where to find the disc, ``(C, H, W)`` with the picture's height and width: a mask of 0 and 1, or a
                photograph, in which the brightest spot is taken. None for the picture itself.
            name: what errors call the source.
            lazy: in place of the transform's own.

        Raises:
            ValueError: for a source without a disc, of another height and width than the picture, or coded by greys; and for
                a photograph where a margin was given.
        """
        source = torch.as_tensor(img if source is None else source)
        if source.shape[1:] != img.shape[1:]:
            raise ValueError(f"{name!r} is {tuple(source.shape[1:])} and the picture {tuple(img.shape[1:])}; resize one first")
        centre, side = self._square(source, name)
        starts = [min(max(c - side // 2, 0), max(n - side, 0)) for c, n in zip(centre, img.shape[1:], strict=True)]
        waits = bool(self.lazy if lazy is None else lazy)
        cropped = self.crop(img, slices=tuple(slice(start, start + side) for start in starts), lazy=waits)
        short = [max(side - n, 0) for n in img.shape[1:]]
        width: Any = [(0, 0), *((n // 2, n - n // 2) for n in short)]  # MONAI's annotation allows one axis only
        return self.pad(cropped, to_pad=width, lazy=waits)

    def inverse(self, img: MetaTensor) -> Tensor:
        """Put a crop back into a picture of the size it was cut from, with zeros around it."""
        return self.crop.inverse(self.pad.inverse(img))

    def _square(self, source: Tensor, name: str) -> tuple[tuple[int, int], int]:
        """The square's centre and side."""
        if not bool((source > 0).any()):
            raise ValueError(f"{name!r} is empty: there is no disc to crop around; look in the photograph instead")
        if bool(((source == 0) | (source == 1)).all()):
            places = source.amax(0).nonzero()
            low, high = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
            extent = max(h - w for w, h in zip(low, high, strict=True))
            side = self.size if self.margin is None else math.ceil(extent * (1 + 2 * self.margin))
            return ((low[0] + high[0]) // 2, (low[1] + high[1]) // 2), int(side or 1)
        if source.shape[0] == 1 and source.unique().numel() <= 3:
            raise ValueError(f"{name!r} holds {source.unique().tolist()}, a grey-coded mask: apply GreyToNestedd to it first")
        if self.size is None:
            raise ValueError(f"{name!r} is a photograph, and a margin needs a mask of 0 and 1; look in a mask or give size")
        return disc_centre(source), self.size


class CropAroundDiscd(MapTransform, InvertibleTransform, LazyTransform):
    """`CropAroundDisc` for the given keys, which stay aligned; undone by MONAI's `Invertd`.

    Args:
        keys: what to crop, all of one height and width.
        size: see `CropAroundDisc`.
        source_key: where to find the disc: a mask, or a photograph. None for the first key.
        margin: see `CropAroundDisc`.
        allow_missing_keys: whether keys may be missing.
        lazy: see `CropAroundDisc`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int | None = None,
        source_key: str | None = None,
        margin: float | None = None,
        allow_missing_keys: bool = False,
        lazy: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        LazyTransform.__init__(self, lazy)
        self.around = CropAroundDisc(size, margin)
        self.source_key = source_key or self.keys[0]

    @property
    def requires_current_data(self) -> bool:
        """True: pending transforms are executed first, and the disc is then found in their result."""
        return True

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """A new dictionary with the crops."""
        source = data[self.source_key]
        name = str(self.source_key)
        waits = self.lazy if lazy is None else lazy
        return dict(data) | {key: self.around(data[key], source, name, waits) for key in self.key_iterator(data)}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put the crops back into pictures of the size they were cut from, with zeros around them."""
        return dict(data) | {key: self.around.inverse(data[key]) for key in self.key_iterator(data)}
