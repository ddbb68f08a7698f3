"""Colour fundus photographs: field of view, disc and cup masks, crops around the disc, benchmark preprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from operator import methodcaller
from typing import Any

import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    InvertibleTransform,
    LoadImaged,
    MapTransform,
    Resized,
    ScaleIntensityd,
    ScaleIntensityRanged,
    Transform,
)
from torch import Tensor

from monai_tta.transforms.fundus_crop import CropAroundDisc as CropAroundDisc
from monai_tta.transforms.fundus_crop import CropAroundDiscd as CropAroundDiscd
from monai_tta.transforms.fundus_crop import disc_centre as disc_centre
from monai_tta.transforms.keyed import KeyedInvertible, with_meta_of
from monai_tta.transforms.pictures import colours_as_shown


class FundusFieldOfView(Transform):
    """The mask of the field of view: the largest component brighter than the black surround, with holes filled.

    Args:
        threshold: of the brightest channel, as a share of the photograph's own maximum.
    """

    def __init__(self, threshold: float = 0.08) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is a share of the maximum, between 0 and 1, found {threshold}")
        self.threshold = threshold

    def __call__(self, img: Tensor) -> Tensor:
        """A mask ``(1, H, W)`` of 0 and 1 from a photograph ``(C, H, W)`` of any scale that starts at 0; empty for a black one.

        Raises:
            ValueError: for negative values, in which black is not 0.
        """
        light = torch.as_tensor(img).float().amax(0)
        if float(torch.as_tensor(img).min()) < 0:
            raise ValueError(f"a photograph starts at 0, found {float(torch.as_tensor(img).min()):g}; look before a z-score")
        seen = sitk.GetImageFromArray((light > self.threshold * light.max()).byte().cpu().numpy())
        largest = sitk.RelabelComponent(sitk.ConnectedComponent(seen)) == 1
        filled = torch.from_numpy(sitk.GetArrayFromImage(sitk.BinaryFillhole(largest)))
        return with_meta_of(filled.float().to(light.device)[None], img)


class FundusFieldOfViewd(MapTransform):
    """Add the field of view of a photograph under a key of its own.

    Args:
        keys: the photograph's key.
        mask_key: the key of the mask.
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


class GreyToNested(InvertibleTransform):
    """Two nested channels from a grey-coded mask: disc with cup, cup.

    Args:
        disc: grey value of the rim, the disc without the cup.
        cup: grey value of the cup.
        background: grey value of everything else.
        exact: how other greys are read. False: as the nearest of the three, for masks that were compressed or interpolated.
            True: as rim, as in the code of VPTTA (Chen et al. 2024) that reads the benchmark.

    Raises:
        ValueError: when two of the three are the same.

    The defaults are the greys of REFUGE and of the five-site benchmark of GraTa and VPTTA: 128, 0 and 255.
    """

    def __init__(self, disc: float = 128, cup: float = 0, background: float = 255, exact: bool = False) -> None:
        if len({disc, cup, background}) < 3:
            raise ValueError(f"disc, cup and background need three grey values, found {disc}, {cup}, {background}")
        self.greys, self.exact = torch.tensor([background, disc, cup], dtype=torch.float32), exact

    def __call__(self, img: Tensor) -> Tensor:
        """Masks ``(2, H, W)`` of 0 and 1 from greys ``(1, H, W)``.

        Raises:
            ValueError: for another shape.
        """
        if img.ndim != 3 or img.shape[0] != 1:
            raise ValueError(f"a grey-coded mask has one channel, found shape {tuple(img.shape)}; give (1, H, W)")
        grey = torch.as_tensor(img).float()
        away = (grey - self.greys.to(grey.device).view(-1, 1, 1)).abs()
        nearest = torch.where(away[2] == 0, 2, (away[0] != 0).long()) if self.exact else away.argmin(0)
        return with_meta_of(torch.stack([nearest >= 1, nearest == 2]).float(), img)

    def inverse(self, img: Tensor) -> Tensor:
        """Greys ``(1, H, W)`` from nested masks ``(2, H, W)`` or probabilities; a cup outside the disc counts as cup.

        Raises:
            ValueError: for another shape.
        """
        if img.ndim != 3 or img.shape[0] != 2:
            raise ValueError(f"nested masks are disc and cup, (2, H, W), found shape {tuple(img.shape)}")
        disc, cup = torch.as_tensor(img) > 0.5
        return with_meta_of(self.greys.to(disc.device)[torch.where(cup, 2, disc.long())][None], img)


class NestedToGrey(InvertibleTransform):
    """A grey-coded mask from two nested channels; the inverse of `GreyToNested`, with the same arguments.

    Args:
        disc: grey value of the rim, the disc without the cup.
        cup: grey value of the cup.
        background: grey value of everything else.
    """

    def __init__(self, disc: float = 128, cup: float = 0, background: float = 255) -> None:
        self.code = GreyToNested(disc, cup, background)

    def __call__(self, img: Tensor) -> Tensor:
        """Greys ``(1, H, W)``."""
        return self.code.inverse(img)

    def inverse(self, img: Tensor) -> Tensor:
        """Nested masks ``(2, H, W)``."""
        return self.code(img)


class GreyToNestedd(KeyedInvertible):
    """`GreyToNested` for the given keys; undone by MONAI's `Invertd` with ``orig_keys`` set to one of them.

    Args:
        keys: which entries of the dictionary to transform.
        disc: grey value of the rim, the disc without the cup.
        cup: grey value of the cup.
        background: grey value of everything else.
        exact: see `GreyToNested`.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        disc: float = 128,
        cup: float = 0,
        background: float = 255,
        exact: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, GreyToNested(disc, cup, background, exact), allow_missing_keys)


class NestedToGreyd(KeyedInvertible):
    """`NestedToGrey` for the given keys.

    Args:
        keys: which entries of the dictionary to transform.
        disc: grey value of the rim, the disc without the cup.
        cup: grey value of the cup.
        background: grey value of everything else.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        disc: float = 128,
        cup: float = 0,
        background: float = 255,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, NestedToGrey(disc, cup, background), allow_missing_keys)


def fundus_preprocessing(
    image: str = "image",
    label: str | None = None,
    size: Sequence[int] = (512, 512),
    greys: tuple[float, float, float] = (128, 0, 255),
) -> Compose:
    """From files to the input of the GraTa and VPTTA benchmarks: resized, minimum to 0 and maximum to 1 over all channels.

    It reads files as their code does: photographs as 8-bit colour, resized bicubically; masks as 8-bit grey, resized by
    nearest neighbours, with all greys between cup and background as rim. MONAI resizes where they use Pillow. On 20
    photographs of IDRiD (Porwal et al. 2018) the mean difference was 0.35 of 255 grey levels at most.

    Args:
        image: key of the photograph's path.
        label: key of the grey-coded mask's path, if there is one; becomes two nested channels, disc with cup and cup.
        size: height and width in pixels.
        greys: disc, cup and background in the mask.

    Returns:
        a `Compose` that makes images ``(3, W, H)`` in [0, 1] and labels ``(2, W, H)``; MONAI puts the width first.

    Sources: VPTTA (Chen et al., CVPR 2024) and GraTa (Chen et al., AAAI 2025), their optic disc and cup code.
    """
    keys = [image] if label is None else [image, label]
    masks = [] if label is None else [GreyToNestedd(label, *greys, exact=True)]
    modes, smooth = ["bicubic", "nearest-exact"][: len(keys)], [True, False][: len(keys)]
    return Compose(
        [
            LoadImaged(image, reader="PILReader", converter=colours_as_shown),
            *([] if label is None else [LoadImaged(label, reader="PILReader", converter=methodcaller("convert", "L"))]),
            EnsureChannelFirstd(keys),
            Resized(keys, spatial_size=tuple(size)[::-1], mode=modes, anti_aliasing=smooth),
            # Bicubic interpolation overshoots at the edge of the field of view. Pillow clips that; else it would be the minimum.
            ScaleIntensityRanged(image, a_min=0, a_max=255, b_min=0, b_max=1, clip=True),
            ScaleIntensityd(image, minv=0.0, maxv=1.0),
            *masks,
            EnsureTyped(keys),
        ]
    )
