"""MRI, whose intensities have no unit: z-scores inside the head, robust percentiles, bias-field correction."""

from __future__ import annotations

from collections.abc import Sequence

import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    Orientationd,
    ScaleIntensityRangePercentiles,
    Spacingd,
    Transform,
)
from torch import Tensor

from monai_tta.transforms.keyed import KeyedTransform, with_meta_of


def head_mask(img: Tensor) -> Tensor:
    """The mask of the head: voxels above Otsu's threshold (Otsu 1979) in each channel, with holes filled.

    Args:
        img: ``(C, *spatial)``.

    Returns:
        booleans of the same shape.

    Raises:
        ValueError: when the image holds NaN or infinity, of which no histogram can be made.
    """
    wrong = int((~torch.isfinite(img)).sum())
    if wrong:
        raise ValueError(f"found {wrong} voxels that are NaN or infinite; replace them first, e.g. by torch.nan_to_num")
    masks = []
    for channel in img:
        # Otsu separates two peaks of a histogram; a constant image has one, and all of it is "head".
        if channel.min() == channel.max():
            masks.append(torch.ones_like(channel, dtype=torch.bool))
            continue
        bright = sitk.OtsuThreshold(sitk.GetImageFromArray(channel.detach().cpu().float().numpy()), 0, 1)
        filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(bright))
        masks.append(torch.from_numpy(filled).to(channel.device) > 0)
    return torch.stack(masks)


class HeadZScore(Transform):
    """Give the head mean 0 and standard deviation 1, channel by channel. Air is shifted and scaled with it.

    Statistics of the head alone do not depend on how much air a crop holds.
    """

    def __call__(self, img: Tensor) -> Tensor:
        """Z-score an image ``(C, *spatial)``. The result is float32; a constant channel becomes 0.

        Raises:
            ValueError: when the image holds NaN or infinity.
        """
        plain = torch.as_tensor(img).float()
        out = torch.as_tensor(img).float().clone()
        for k, mask in enumerate(head_mask(plain)):
            inside = plain[k][mask]
            spread = inside.std() if inside.numel() > 1 else inside.new_tensor(0.0)
            out[k] = (plain[k] - inside.mean()) / (spread if spread > 0 else 1)
        return with_meta_of(out, img)


class RobustPercentiles(Transform):
    """Scale from the 1st to the 99th percentile to 0..1 and clip, so that a few bright vessels do not set the scale.

    Args:
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.

    Raises:
        ValueError: unless 0 <= lower < upper <= 100.
    """

    def __init__(self, lower: float = 1, upper: float = 99) -> None:
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"percentiles need 0 <= lower < upper <= 100, found lower={lower} and upper={upper}")
        self.scale = ScaleIntensityRangePercentiles(lower, upper, 0.0, 1.0, clip=True, channel_wise=True)

    def __call__(self, img: Tensor) -> Tensor:
        """Scale an image ``(C, *spatial)``; values in [0, 1]."""
        return torch.as_tensor(self.scale(img))


class BiasFieldCorrection(Transform):
    """Remove the slow brightness gradient of the receive coil by N4 (Tustison et al. 2010, SimpleITK).

    Args:
        shrink: the field is estimated on an image that is coarser by this factor along each axis.
        iterations: per level of resolution.

    Raises:
        ValueError: when shrink is below 1.
    """

    def __init__(self, shrink: int = 4, iterations: Sequence[int] = (50, 50, 30)) -> None:
        if shrink < 1:
            raise ValueError(f"shrink must be at least 1, found {shrink}")
        self.shrink, self.iterations = shrink, list(iterations)

    def __call__(self, img: Tensor) -> Tensor:
        """Correct an image ``(C, *spatial)``, 2D or 3D. Unit and dtype stay; integers are rounded.

        Raises:
            ValueError: when the image holds NaN or infinity.
        """
        plain = torch.as_tensor(img)
        heads = head_mask(plain)
        out = torch.stack([self._channel(c, m) for c, m in zip(plain.detach().cpu().float(), heads, strict=True)])
        return with_meta_of((out if plain.is_floating_point() else out.round()).to(plain), img)

    def _channel(self, channel: Tensor, head: Tensor) -> Tensor:
        """Correct one channel: the field is estimated inside the head and divided out everywhere."""
        low, high = float(channel.min()), float(channel.max())
        if low == high:  # there is no field to estimate, and N4 would make one up
            return channel
        # N4 takes logarithms. Only an image that reaches zero is moved above it: a field multiplies, and an offset is not
        # multiplied with it.
        lift = 1e-3 * max(high - low, 1e-6) - low if low <= 0 else 0.0
        positive = sitk.GetImageFromArray((channel + lift).numpy())
        mask = sitk.GetImageFromArray(head.byte().cpu().numpy())
        factors = [max(1, min(self.shrink, size // 8)) for size in positive.GetSize()]
        corrector = sitk.N4BiasFieldCorrectionImageFilter()
        corrector.SetMaximumNumberOfIterations(self.iterations)
        corrector.Execute(sitk.Shrink(positive, factors), sitk.Shrink(mask, factors))
        field = sitk.Exp(sitk.Cast(corrector.GetLogBiasFieldAsImage(positive), sitk.sitkFloat32))
        return torch.from_numpy(sitk.GetArrayFromImage(positive / field)) - lift


class HeadZScored(KeyedTransform):
    """`HeadZScore` for the given keys.

    Args:
        keys: which entries of the dictionary to transform.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, HeadZScore(), allow_missing_keys)


class RobustPercentilesd(KeyedTransform):
    """`RobustPercentiles` for the given keys.

    Args:
        keys: which entries of the dictionary to transform.
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(self, keys: KeysCollection, lower: float = 1, upper: float = 99, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, RobustPercentiles(lower, upper), allow_missing_keys)


class BiasFieldCorrectiond(KeyedTransform):
    """`BiasFieldCorrection` for the given keys.

    Args:
        keys: which entries of the dictionary to transform.
        shrink: see `BiasFieldCorrection`.
        iterations: see `BiasFieldCorrection`.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 30),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, BiasFieldCorrection(shrink, iterations), allow_missing_keys)


def mri_preprocessing(
    image: str = "image",
    label: str | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    axcodes: str = "RAS",
    n4: bool = False,
) -> Compose:
    """From a file to a network's input: oriented, resampled, optionally corrected by N4, and z-scored in the head.

    Args:
        image: key of the image's path.
        label: key of the label's path, if there is one; resampled by nearest neighbours.
        spacing: voxel size in mm.
        axcodes: orientation, e.g. "RAS".
        n4: whether to correct the bias field first (seconds per volume).
    """
    keys = [image] if label is None else [image, label]
    modes = ["bilinear", "nearest"][: len(keys)]
    return Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes=axcodes, labels=None),
            Spacingd(keys, pixdim=tuple(spacing), mode=modes),
            *([BiasFieldCorrectiond(image)] if n4 else []),
            HeadZScored(image),
            EnsureTyped(keys),
        ]
    )
