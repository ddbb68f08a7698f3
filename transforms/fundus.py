"""Colour fundus photographs: field of view, disc and cup masks, crops around the disc, benchmark preprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    Crop,
    EnsureChannelFirstd,
    EnsureTyped,
    GaussianSmooth,
    InvertibleTransform,
    LoadImaged,
    MapTransform,
    Resized,
    ScaleIntensityd,
    SpatialPad,
    Transform,
)
from torch import Tensor

from monai_tta.transforms.keyed import KeyedTransform


class FundusFieldOfView(Transform):
    """Where the camera saw the retina: the largest piece brighter than the black surround, holes filled.

    Args:
        threshold: of the brightest channel, as a share of the photograph's own maximum.
    """

    def __init__(self, threshold: float = 0.08) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is a share of the maximum, between 0 and 1, found {threshold}")
        self.threshold = threshold

    def __call__(self, img: Tensor) -> Tensor:
        """A mask ``(1, H, W)`` of 0 and 1 from a photograph ``(3, H, W)`` of any positive scale."""
        light = torch.as_tensor(img).float().amax(0)
        seen = sitk.GetImageFromArray((light > self.threshold * light.max()).byte().cpu().numpy())
        largest = sitk.RelabelComponent(sitk.ConnectedComponent(seen)) == 1
        return torch.from_numpy(sitk.GetArrayFromImage(sitk.BinaryFillhole(largest))).float().to(light.device)[None]


class FundusFieldOfViewd(MapTransform):
    """Put the field of view of a photograph beside it.

    Args:
        keys: the photograph's key.
        mask_key: where the mask goes.
        threshold: see `FundusFieldOfView`.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "fov", threshold: float = 0.08) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"one photograph has one field of view; found keys {self.keys}")
        self.mask_key, self.view = mask_key, FundusFieldOfView(threshold)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the mask."""
        return dict(data) | {self.mask_key: self.view(data[self.keys[0]])}


class GreyToNested(Transform):
    """Two nested channels from a grey-coded mask: disc with cup, cup.

    Args:
        disc: grey value of the rim, the disc without the cup.
        cup: grey value of the cup.
        background: grey value of everything else.

    The defaults are those of REFUGE and of the five-site benchmark of GraTa and VPTTA: 128, 0 and 255. Masks that were
    resampled or compressed hold other greys; each counts as the nearest of the three.
    """

    def __init__(self, disc: float = 128, cup: float = 0, background: float = 255) -> None:
        if len({disc, cup, background}) < 3:
            raise ValueError(f"disc, cup and background need three grey values, found {disc}, {cup}, {background}")
        self.greys = torch.tensor([background, disc, cup], dtype=torch.float32)

    def __call__(self, img: Tensor) -> Tensor:
        """Masks ``(2, H, W)`` of 0 and 1 from greys ``(1, H, W)``.

        Raises:
            ValueError: for more than one channel.
        """
        grey = torch.as_tensor(img)
        if grey.shape[0] != 1:
            raise ValueError(f"a grey-coded mask has one channel, found shape {tuple(grey.shape)}")
        nearest = (grey.float() - self.greys.to(grey.device).view(-1, 1, 1)).abs().argmin(0, keepdim=True)
        return torch.cat([nearest >= 1, nearest == 2]).float()

    def inverse(self, img: Tensor) -> Tensor:
        """Greys ``(1, H, W)`` from nested masks ``(2, H, W)``; a cup outside the disc counts as cup."""
        disc, cup = torch.as_tensor(img)[:2] > 0.5
        return self.greys.to(disc.device)[torch.where(cup, 2, disc.long())][None]


class NestedToGrey(Transform):
    """A grey-coded mask from two nested channels; the inverse of `GreyToNested`, with the same arguments."""

    def __init__(self, disc: float = 128, cup: float = 0, background: float = 255) -> None:
        self.code = GreyToNested(disc, cup, background)

    def __call__(self, img: Tensor) -> Tensor:
        """Greys ``(1, H, W)``."""
        return self.code.inverse(img)


class GreyToNestedd(KeyedTransform):
    """`GreyToNested` for the given keys."""

    def __init__(self, keys: KeysCollection, disc: float = 128, cup: float = 0, background: float = 255) -> None:
        super().__init__(keys, GreyToNested(disc, cup, background))


class NestedToGreyd(KeyedTransform):
    """`NestedToGrey` for the given keys."""

    def __init__(self, keys: KeysCollection, disc: float = 128, cup: float = 0, background: float = 255) -> None:
        super().__init__(keys, NestedToGrey(disc, cup, background))


def disc_centre(img: Tensor, blur: float = 0.02) -> tuple[int, int]:
    """Where the optic disc most likely is: the brightest spot once the photograph is blurred.

    Args:
        img: ``(C, H, W)``; a mask does as well as a photograph.
        blur: standard deviation as a share of the longer side.

    Returns:
        row and column.
    """
    light = torch.as_tensor(img).float().sum(0, keepdim=True)
    smooth = torch.as_tensor(GaussianSmooth(sigma=max(1.0, blur * max(light.shape[1:])))(light))[0]
    place = int(smooth.argmax())
    return place // smooth.shape[1], place % smooth.shape[1]


class CropAroundDiscd(MapTransform, InvertibleTransform):
    """Crop a square around the optic disc out of a photograph and its masks; undone by MONAI's `Invertd`.

    Args:
        keys: what to crop, all of one size.
        size: side of the square in pixels; smaller photographs are padded with zeros.
        source_key: where to look for the disc: a mask, or the photograph itself (its brightest spot). The first key
            unless told otherwise.

    Raises:
        ValueError: when a mask given as the source is empty.
    """

    def __init__(self, keys: KeysCollection, size: int = 512, source_key: str | None = None) -> None:
        super().__init__(keys)
        if size < 1:
            raise ValueError(f"size is a side in pixels, found {size}")
        self.size, self.source_key = size, source_key or self.keys[0]
        self.crop, self.pad = Crop(), SpatialPad((size, size))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the crops."""
        source = torch.as_tensor(data[self.source_key])
        if not bool((source > 0).any()):
            raise ValueError(f"{self.source_key!r} is empty: there is no disc to crop around; use the photograph as source_key")
        around = Crop.compute_slices(roi_center=disc_centre(source), roi_size=(self.size, self.size))
        return dict(data) | {key: self.pad(self.crop(data[key], slices=around)) for key in self.key_iterator(data)}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put the crops back into pictures of the size they were cut from, zeros around them."""
        return dict(data) | {key: self.crop.inverse(self.pad.inverse(data[key])) for key in self.key_iterator(data)}


def fundus_preprocessing(
    image: str = "image",
    label: str | None = None,
    size: Sequence[int] = (512, 512),
    greys: tuple[float, float, float] = (128, 0, 255),
) -> Compose:
    """From files to the input of the GraTa and VPTTA benchmarks: resized, minimum to 0 and maximum to 1 over all channels.

    Args:
        image: key of the photograph's path.
        label: key of the grey-coded mask's path, if there is one; becomes two nested channels.
        size: height and width in pixels.
        greys: disc, cup and background in the mask.
    """
    keys = [image] if label is None else [image, label]
    masks = [] if label is None else [GreyToNestedd(label, *greys)]
    modes = ["bilinear", "nearest"][: len(keys)]
    return Compose(
        [
            LoadImaged(keys, reader="PILReader"),
            EnsureChannelFirstd(keys),
            Resized(keys, spatial_size=tuple(size), mode=modes),
            ScaleIntensityd(image, minv=0.0, maxv=1.0),
            *masks,
            EnsureTyped(keys),
        ]
    )
