"""Pictures of an image with its mask: three planes through the middle of what was found, or the whole photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, Orientation
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from monai_tta.core.geometry import slice_as_looked_at, voxel_spacing
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.mask_formats import DICOM_SEG, ENDINGS_OF_FORMATS
from monai_tta.reporting.case_pictures import draw_slice
from monai_tta.transforms.pictures import as_shown

PLANES = ("sagittal", "coronal", "axial")  # which plane stands across each axis
MOST_STRUCTURES = 12  # more outlines hide each other


def mask_pictures(image: Path, masks: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Captions and PNGs of an image with its mask.

    Args:
        image: a file, or the folder of a DICOM series.
        masks: its mask's file, on the image's grid.

    Raises:
        ValueError: for several masks, an image of several channels, or a mask on another grid.
    """
    if len(masks) != 1:
        raise ValueError(f"it has {len(masks)} masks, and pictures are drawn of one")
    if image.name.lower().endswith(PICTURES):
        return [("photograph", _photograph(image, masks[0]))]
    voxels = _load(image)
    found = _load_seg(masks[0], image) if masks[0].name.lower().endswith(ENDINGS_OF_FORMATS[DICOM_SEG]) else _load(masks[0])
    if len(voxels) != 1 or len(found) != 1 or voxels.shape != found.shape:
        shapes = " and ".join(str(tuple(one.shape)) for one in (voxels, found))
        raise ValueError(f"pictures are drawn of one channel and a mask on its grid, found {shapes}")
    spacing = voxel_spacing(voxels, voxels.ndim - 1) or (1.0,) * (voxels.ndim - 1)
    values, structures = voxels.as_tensor().double(), torch.from_numpy(_structures(found.numpy()[0]))
    if values.ndim == 3:
        return [("slice", _drawn(values.transpose(1, 2), structures.transpose(1, 2), spacing))]
    middle = _middle(structures.any(0))
    return [(PLANES[axis], _plane(values, structures, axis, middle[axis], spacing)) for axis in (2, 1, 0)]


def _load(path: Path) -> Any:
    """A volume ``(C, x, y, z)`` with its axes towards right, front and head; a flat image as it lies."""
    loaded: Any = LoadImage(image_only=True, ensure_channel_first=True)(path)
    return Orientation(axcodes="RAS", labels=None)(loaded) if loaded.ndim == 4 else loaded


def _load_seg(mask: Path, image: Path) -> Any:
    """The label map of a DICOM Segmentation, as `_load` returns other masks."""
    from monai_tta.pipeline.read_dicom_seg import seg_on_series

    volume = seg_on_series(mask, image)
    found = MetaTensor(np.moveaxis(volume.voxels, -1, 0).astype(np.float32), affine=torch.as_tensor(volume.affine))
    return Orientation(axcodes="RAS", labels=None)(found)


def _structures(mask: NDArray[np.floating]) -> NDArray[np.bool_]:
    """What a label map holds, without the background ``(structures, *spatial)``; all of it as one where that is too much."""
    values = [value for value in np.unique(mask) if value != 0]
    if not values or len(values) > MOST_STRUCTURES:
        return (mask != 0)[None]
    return np.stack([mask == value for value in values])


def _middle(found: Tensor) -> list[int]:
    """The centre of what was found; of the image where nothing was."""
    if not found.any():
        return [length // 2 for length in found.shape]
    return [round(float(places.double().mean())) for places in found.nonzero(as_tuple=True)]


def _plane(values: Tensor, structures: Tensor, axis: int, place: int, spacing: Sequence[float]) -> bytes:
    """The plane across an axis at a place."""
    picture, masks = (slice_as_looked_at(volume, axis, place) for volume in (values, structures))
    return _drawn(picture, masks, [size for other, size in enumerate(spacing) if other != axis])


def _drawn(picture: Tensor, masks: Tensor, spacing: Sequence[float]) -> bytes:
    """A slice ``(1, rows, columns)`` with its masks, whose columns lie along the first of two axes of this spacing."""
    return draw_slice(picture[0].numpy(), masks.numpy(), (spacing[1], spacing[0]))


def _photograph(image: Path, mask: Path) -> bytes:
    with Image.open(image) as opened:
        shown = np.asarray(as_shown(opened).convert("RGB"), dtype=np.float64)
    if mask.name.lower().endswith(PICTURES):
        with Image.open(mask) as opened:
            found = np.asarray(opened)
    else:
        found = np.asarray(_load(mask).as_tensor()[0]).squeeze().T
    if found.shape[:2] != shown.shape[:2] or found.ndim > 3:
        raise ValueError(f"pictures are drawn of a mask on its image's grid, found {found.shape[:2]} and {shown.shape[:2]}")
    channels = [found] if found.ndim == 2 else [found[..., k] for k in range(found.shape[2])]
    structures = np.concatenate([_structures(channel) for channel in channels])
    return draw_slice(shown, structures)
