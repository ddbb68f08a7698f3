"""What pictures of a case show: its image as a person sees it, the structures of its masks, and the planes that are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from monai_tta.pipeline.case_file import files_of
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.mask_formats import DICOM_SEG, ENDINGS_OF_FORMATS
from monai_tta.transforms.pictures import as_shown

PLANES = ("sagittal", "coronal", "axial")  # which plane stands across each axis
MOST_STRUCTURES = 12  # more outlines hide each other


@dataclass(frozen=True, eq=False)
class Shown:
    """An image as pictures show it.

    Args:
        values: ``(1, x, y, z)`` with its axes towards right, front and head; ``(1, x, y)`` of a flat image; ``(3, x, y)`` of a
            photograph.
        spacing: of its voxels along each axis, in one unit.
        channels: how many the image has; only the first is shown. A photograph's colours are one.
        series: the image where it is a volume: a file, or the folder of a series; None for a photograph.
    """

    values: Tensor
    spacing: tuple[float, ...]
    channels: int = 1
    series: Path | None = None

    @property
    def is_photograph(self) -> bool:
        """Whether its colours are shown."""
        return len(self.values) == 3


@dataclass(frozen=True)
class Plane:
    """A plane that is cut.

    Args:
        caption: what it is called.
        pixel: height and width of a pixel, in one unit.
        left: the side of the patient that is on the left; "" where nobody knows.
        across: the axis that it is cut across, from 0; None where the image is flat.
        place: where on this axis.
    """

    caption: str
    pixel: tuple[float, float] = (1.0, 1.0)
    left: str = ""
    across: int | None = None
    place: int = 0

    def cut(self, values: Tensor) -> NDArray[Any]:
        """The plane ``(C, rows, columns)`` of an image, a mask or a map ``(C, *spatial)``."""
        if self.across is None:
            return np.asarray(values.transpose(1, 2))
        return np.asarray(slice_as_looked_at(values, self.across, self.place))


def intensity_ends(document: Mapping[str, Any]) -> tuple[float, float] | None:
    """The values that pictures of a run's volumes draw black and white; None where its bundle scales by each image.

    Args:
        document: what ``records.json`` holds; older ones do not know.
    """
    found = document["run"].get("intensity_range")
    return None if found is None else (float(found[0]), float(found[1]))


def load_shown(image: Path) -> Shown:
    """Read an image as pictures show it.

    Args:
        image: a file, the folder of a DICOM series, or a case that `write_case_file` wrote: its first file is shown.

    Raises:
        ValueError: for a picture that cannot be shown in one way.
    """
    files = files_of(image)
    if files[0].name.lower().endswith(PICTURES):
        with Image.open(files[0]) as opened:
            pixels = np.asarray(as_shown(opened).convert("RGB"), dtype=np.float64)
        return Shown(torch.from_numpy(pixels).permute(2, 1, 0), (1.0, 1.0), len(files))
    loaded = _load(files[0])
    dims = loaded.ndim - 1
    channels = len(files) if len(files) > 1 else len(loaded)
    return Shown(loaded.as_tensor()[:1].double(), voxel_spacing(loaded, dims) or (1.0,) * dims, channels, files[0])


def load_structures(masks: Sequence[Path], labels: Sequence[Mapping[str, Any]], shown: Shown) -> Tensor:
    """The structures in a case's masks ``(structures, *spatial)``, one or more, as booleans; all of it as one where they are
    more than `MOST_STRUCTURES`.

    Args:
        masks: the files.
        labels: of the case, as in ``records.json``: which value or channel is which structure. Where none are known, every value
            but 0 is a structure.
        shown: the image, on whose grid they must lie.

    Raises:
        ValueError: for a mask on another grid.
    """
    found: list[NDArray[np.bool_]] = []
    for path in masks:
        own = [label for label in labels if label.get("file", path.name) == path.name]
        for structure in _structures(_channels(path, shown), own):
            if tuple(structure.shape) != tuple(shown.values.shape[1:]):
                raise ValueError(
                    "pictures are drawn of a mask on its image's grid, found "
                    f"{tuple(structure.shape)} and {tuple(shown.values.shape[1:])}"
                )
            if len(labels) > MOST_STRUCTURES and found:
                found[0] = found[0] | structure
            else:
                found.append(structure)
    many = len(found) > MOST_STRUCTURES
    return torch.from_numpy(np.any(found, axis=0)[None] if many else np.stack(found))


def names_of_structures(masks: Sequence[Path], labels: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """What the structures that `load_structures` returned are called, in their order.

    Args:
        masks: the files.
        labels: of the case.
        count: how many it returned.
    """
    called = [label["name"] for path in masks for label in labels if label.get("file", path.name) == path.name]
    if count == 1 and len(called) != 1:
        return ["what was found"]
    known = called if len(called) == count else [None] * count
    return [name or f"structure {number}" for number, name in enumerate(known, 1)]


def load_map(path: Path, shown: Shown) -> Tensor:
    """A map of uncertainty ``(1, *spatial)`` as a share of its largest possible value in a picture, else as it is.

    Args:
        path: its file.
        shown: the image, on whose grid it must lie.

    Raises:
        ValueError: for a map on another grid.
    """
    found = torch.from_numpy(_channels(path, shown).astype(np.float64))
    if found.shape[1:] != shown.values.shape[1:]:
        raise ValueError(f"the map of uncertainty is {tuple(found.shape[1:])}, and its image {tuple(shown.values.shape[1:])}")
    return found


def planes(shown: Shown, found: Tensor) -> list[Plane]:
    """Three planes through the centre of what was found, or the whole of a flat image.

    Args:
        shown: the image.
        found: ``(*spatial)``, as booleans; the image's centre counts where there is nothing.
    """
    if found.ndim == 2:
        return [Plane("photograph" if shown.is_photograph else "slice", (shown.spacing[1], shown.spacing[0]))]
    cut = []
    for axis in (2, 1, 0):
        across, up = [size for other, size in enumerate(shown.spacing) if other != axis]
        cut.append(Plane(PLANES[axis], (up, across), "A" if axis == 0 else "R", axis, _middle(found, axis)))
    return cut


def _middle(found: Tensor, axis: int) -> int:
    """Where on an axis the centre of what was found is; where the plane there holds nothing of it, the plane that holds most."""
    counts = found.sum([other for other in range(found.ndim) if other != axis])
    if not counts.any():
        return len(counts) // 2
    centre = round(float((counts * torch.arange(len(counts))).sum() / counts.sum()))
    return centre if counts[centre] else int(counts.argmax())


def _load(path: Path) -> Any:
    """A volume ``(C, x, y, z)`` with its axes towards right, front and head; a flat image as it lies."""
    loaded: Any = LoadImage(image_only=True, ensure_channel_first=True)(path)
    return _towards_right_front_and_head(loaded) if loaded.ndim == 4 else loaded


def _towards_right_front_and_head(loaded: MetaTensor) -> Any:
    return Orientation(axcodes="RAS", labels=None)(loaded)


def _load_seg(path: Path, series: Path) -> Any:
    """The masks of a DICOM Segmentation ``(C, x, y, z)``, as `_load` returns others."""
    from monai_tta.pipeline.read_dicom_seg import seg_on_series

    volume = seg_on_series(path, series)
    voxels = np.moveaxis(volume.voxels, -1, 0).astype(np.float32)
    return _towards_right_front_and_head(MetaTensor(voxels, affine=torch.as_tensor(volume.affine)))


def _channels(path: Path, shown: Shown) -> NDArray[Any]:
    """A mask or map ``(C, *spatial)``, lying like the image as it is shown."""
    if path.name.lower().endswith(PICTURES):
        with Image.open(path) as opened:
            pixels = np.asarray(opened)
        return (pixels if pixels.ndim == 3 else pixels[..., None]).transpose(2, 1, 0)
    is_seg = path.name.lower().endswith(ENDINGS_OF_FORMATS[DICOM_SEG])
    loaded = _load_seg(path, shown.series) if is_seg and shown.series is not None else _load(path)
    voxels = np.asarray(loaded.as_tensor())
    return voxels[..., 0] if voxels.ndim == 4 and shown.values.ndim == 3 and voxels.shape[-1] == 1 else voxels


def _structures(channels: NDArray[Any], labels: Sequence[Mapping[str, Any]]) -> Iterator[NDArray[np.bool_]]:
    """The structures of one mask, one after the other: those that its labels say, else every value but 0."""
    for label in labels:
        voxels, value = channels[label.get("channel", 0)], label.get("value")
        yield voxels != 0 if value is None else voxels == value
    for voxels in () if labels else channels:
        values = [value for value in np.unique(voxels) if value != 0]
        for value in values if 0 < len(values) <= MOST_STRUCTURES else [None]:
            yield voxels != 0 if value is None else voxels == value
