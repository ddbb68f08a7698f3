"""Pictures of an image with its mask: three planes through the middle of what was found, or the whole photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import LoadImage, Orientation
from numpy.typing import NDArray
from PIL import Image

from monai_tta.core.geometry import voxel_spacing
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.reporting.case_pictures import draw_slice
from monai_tta.transforms.pictures import as_shown

PLANES = ("sagittal", "coronal", "axial")  # which plane stands across each axis
_AXES = "LPS"  # of the planes: right is drawn on the left, as radiologists look at it; front and head are up
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
    voxels, found = (_load(path) for path in (image, masks[0]))
    if len(voxels) != 1 or len(found) != 1 or voxels.shape != found.shape:
        raise ValueError(
            f"pictures are drawn of one channel and a mask on its grid, found {tuple(voxels.shape)} and {tuple(found.shape)}"
        )
    spacing = voxel_spacing(voxels, voxels.ndim - 1) or (1.0,) * (voxels.ndim - 1)
    values = np.asarray(voxels.as_tensor()[0], dtype=np.float64)
    structures = _structures(np.asarray(found.as_tensor()[0]))
    if values.ndim == 2:
        return [("slice", draw_slice(values.T, structures.transpose(0, 2, 1), (spacing[1], spacing[0])))]
    middle = _middle(np.asarray(structures.any(0)))
    return [(plane, _plane(values, structures, axis, middle[axis], spacing)) for axis, plane in reversed(list(enumerate(PLANES)))]


def _load(path: Path) -> Any:
    """A volume ``(C, x, y, z)`` with its axes towards left, back and head; a flat image as it lies."""
    loaded: Any = LoadImage(image_only=True, ensure_channel_first=True)(path)
    turned: Any = Orientation(axcodes=_AXES, labels=None)(loaded) if loaded.ndim == 4 else loaded
    return turned


def _structures(mask: NDArray[np.floating]) -> NDArray[np.bool_]:
    """What a label map holds, without the background ``(structures, *spatial)``; all of it as one where that is too much."""
    values = [value for value in np.unique(mask) if value != 0]
    if not values or len(values) > MOST_STRUCTURES:
        return (mask != 0)[None]
    return np.stack([mask == value for value in values])


def _middle(found: NDArray[np.bool_]) -> tuple[int, ...]:
    """The centre of what was found; of the image where nothing was."""
    if not found.any():
        return tuple(length // 2 for length in found.shape)
    return tuple(int(round(float(places.mean()))) for places in np.nonzero(found))


def _plane(values: NDArray[np.floating], structures: NDArray[np.bool_], axis: int, place: int, spacing: Sequence[float]) -> bytes:
    """The plane across an axis at a place, with head and front up: rows run along the later of the two other axes."""
    across, down = (other for other in range(3) if other != axis)
    picture = np.take(values, [place], axis).squeeze(axis).T
    masks = np.take(structures, [place], axis + 1).squeeze(axis + 1).transpose(0, 2, 1)
    if down == 2:  # this axis runs towards the head
        picture, masks = picture[::-1], masks[:, ::-1]
    return draw_slice(picture, masks, (spacing[down], spacing[across]))


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
