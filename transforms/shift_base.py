"""What all simulated scanner shifts share: a severity, a seed, and how the result gets the given image's type and scale.

The shifts themselves are in `shift_mri`, `shift_ct` and `shift_fundus`. The five severities follow the corruption
benchmarks of natural images (Hendrycks and Dietterich, ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import GaussianSmooth, Transform
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import Tensor

from monai_tta.transforms.keyed import KeyedTransform

SEVERITIES = (1, 2, 3, 4, 5)


class ScannerShift(Transform):
    """A fixed change of how an image looks. Subclasses implement `shift`; ``severity`` says how strong it is.

    The image is ``(C, *spatial)`` of any scale. Shape, dtype, device and meta data stay; integers are rounded and clamped
    to their type's range. An image that is constant, or not finite everywhere, is returned unchanged.

    Args:
        severity: 1 (mild) to 5 (extreme).
        seed: of all random draws; it has no effect on a shift without any.

    Raises:
        ValueError: when the severity is not 1, 2, 3, 4 or 5.
    """

    def __init__(self, severity: int = 3, seed: int = 0) -> None:
        if severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {SEVERITIES}, found {severity!r}")
        self.severity, self.seed = severity, seed

    def __call__(self, img: Tensor) -> Tensor:
        """Return the shifted image, of the given one's type and on its scale."""
        values = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        low, high = values.min(), values.max()
        if not (high > low and torch.isfinite(high - low)):
            return img
        self.check(values)
        return _with_type_of(img, self.on_its_scale(values, low, high))

    def check(self, values: Tensor) -> None:
        """Raise a ValueError for an image that this shift is not made for. The base class accepts any image."""

    def on_its_scale(self, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Shift values that span ``low`` to ``high``. The base class scales them to [0, 1] and back."""
        return self.shift((values - low) / (high - low)) * (high - low) + low

    def shift(self, unit: Tensor) -> Tensor:
        """Change an image whose intensities span [0, 1]."""
        raise NotImplementedError

    def seeded(self, transform: Any) -> Any:
        """A random transform of MONAI with this shift's seed."""
        transform.set_random_state(seed=self.seed)
        return transform

    def draw(self) -> torch.Generator:
        """A new generator with this shift's seed."""
        return torch.Generator().manual_seed(self.seed)


def _with_type_of(img: Any, out: Tensor) -> Tensor:
    """``out`` with the dtype, device and meta data of ``img``; a tensor for a numpy image."""
    like = torch.as_tensor(img)
    plain = convert_to_tensor(out, track_meta=False)
    if not like.is_floating_point():
        range_ = torch.iinfo(like.dtype)
        plain = plain.round().clamp(range_.min, range_.max)
    return convert_to_dst_type(plain, like)[0]


def blurred(img: Tensor, sigma: float, axes: int | None = None) -> Tensor:
    """Gaussian blur of ``sigma`` voxels that repeats the values at the edge of the grid beyond it.

    MONAI's `GaussianSmooth` pads with zeros, which are water in HU and black in a photograph.

    Args:
        img: ``(C, *spatial)``.
        sigma: in voxels.
        axes: how many spatial axes are blurred, counted from the first; None for all.
    """
    dims = img.ndim - 1
    sigmas = [sigma if axis < (axes or dims) else 0.0 for axis in range(dims)]
    margins = [int(4 * s + 1) if s else 0 for s in sigmas]  # half the width of MONAI's kernel
    padding = [m for margin in reversed(margins) for m in (margin, margin)]
    smooth = convert_to_tensor(GaussianSmooth(sigma=sigmas)(F.pad(img[None], padding, mode="replicate")[0]), track_meta=False)
    return smooth[(slice(None), *(slice(m, m + n) for m, n in zip(margins, img.shape[1:], strict=True)))]


def thick_slices(img: Tensor, thickness: int) -> Tensor:
    """Average ``thickness`` neighbours along the last axis and interpolate back to the same grid. Nothing moves.

    Raises:
        ValueError: for an image without slices.
    """
    if img.ndim != 4:
        raise ValueError(f"thick slices need a volume (C, x, y, z), found shape {tuple(img.shape)}")
    depth = img.shape[-1]
    # Whole slabs only: with a part of one at the end, the interpolation back would stretch the whole volume.
    missing = -depth % thickness
    before = missing // 2
    flat = F.pad(img.reshape(1, -1, depth), (before, missing - before), mode="replicate")
    slabs = F.avg_pool1d(flat, thickness)
    fine = F.interpolate(slabs, scale_factor=thickness, mode="linear", align_corners=False)
    return fine[..., before : before + depth].reshape(img.shape)


class ScannerShiftd(KeyedTransform):
    """Dictionary form of any `ScannerShift`; labels under other keys stay as they are.

    Args:
        keys: of the images.
        shift: applied to each of them.
        allow_missing_keys: whether to skip keys that are not there.

    Raises:
        KeyError: when a key is missing and ``allow_missing_keys`` is False.
    """

    def __init__(self, keys: KeysCollection, shift: ScannerShift, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, shift, allow_missing_keys)


Shifts = Sequence[type[ScannerShift]]
