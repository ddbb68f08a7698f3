"""The voxels of a mask's file, and where they lie, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from monai_tta.pipeline.ask_itk import is_text
from monai_tta.pipeline.declared_place import Numbers, ras_affine_of_itk
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.mask_formats import DICOM_SEG, ENDINGS_OF_FORMATS

_MM = {"meter": 1e3, "micron": 1e-3}  # of NIfTI's units of length; the header of most files does not say, and means mm


class UnreadableMask(ValueError):
    """A mask's file that cannot be read here; the message says why."""


@dataclass(frozen=True)
class MaskVolume:
    """The voxels of a mask.

    Args:
        voxels: ``(x, y, z, channels)``, or ``(x, y, channels)`` of a flat mask.
        affine: from voxels to mm in RAS, ``(4, 4)``; None for a picture, which does not say.
    """

    voxels: NDArray[Any]
    affine: Numbers | None

    @property
    def flat(self) -> bool:
        """Whether the mask is 2D."""
        return self.voxels.ndim == 3

    @property
    def size(self) -> float | None:
        """Of one voxel in ml, or of one pixel of a flat mask in mm2; None where it is unknown."""
        if self.affine is None:
            return None
        axes = self.affine[:3, :3]
        if self.flat:
            return float(np.linalg.norm(np.cross(axes[:, 0], axes[:, 1])))
        return float(abs(np.linalg.det(axes))) / 1000


def read_volume(path: Path) -> MaskVolume:
    """Read a mask.

    Args:
        path: a file in one of the formats that MONAI writes.

    Raises:
        UnreadableMask: for one that cannot be read.
    """
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz", ".hdr", ".img")):
            return _read_nifti(path)
        if name.endswith(PICTURES):
            with Image.open(path) as picture:
                pixels = np.asarray(picture).swapaxes(0, 1)
            return MaskVolume(pixels if pixels.ndim > 2 else pixels[..., None], None)
        if name.endswith(ENDINGS_OF_FORMATS[DICOM_SEG]):  # its frames are no volume: empty ones are left out
            raise UnreadableMask("it is a DICOM Segmentation, which is read together with its series alone")
        return _read_by_itk(path)
    except UnreadableMask:
        raise
    except Exception as error:  # readers raise errors of many kinds
        raise UnreadableMask(f"it cannot be read ({type(error).__name__})") from error


def write_volume(volume: MaskVolume, path: Path) -> None:
    """Write a mask as NRRD or MetaImage, on the grid that it has. Channels are the components of a voxel.

    Args:
        volume: a mask that says where it lies. A flat one becomes a volume of one slice.
        path: whose ending says the format.

    Raises:
        ValueError: for a mask that does not say where it lies.
    """
    if volume.affine is None:
        raise ValueError(f"the mask does not say where it lies, as a picture, so it cannot be written as {path.suffix}")
    voxels = volume.voxels[:, :, None] if volume.flat else volume.voxels
    several = voxels.shape[-1] > 1
    values = voxels.astype(np.uint8 if voxels.dtype.kind == "b" else voxels.dtype.newbyteorder("="))
    image = sitk.GetImageFromArray(np.moveaxis(values if several else values[..., 0], (0, 1, 2), (2, 1, 0)), isVector=several)
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(size) for size in spacing])
    image.SetDirection([float(part) for part in (affine[:3, :3] / spacing).ravel()])
    image.SetOrigin([float(part) for part in affine[:3, 3]])
    sitk.WriteImage(image, str(path), useCompression=True)


def _read_nifti(path: Path) -> MaskVolume:
    image: Any = nib.load(path)
    voxels = np.asarray(image.dataobj)
    unit = _MM.get(image.header.get_xyzt_units()[0], 1.0) if hasattr(image.header, "get_xyzt_units") else 1.0
    affine = np.diag([unit, unit, unit, 1]) @ np.asarray(image.affine, float)
    if voxels.ndim == 2:
        return MaskVolume(voxels[..., None], affine)
    channels = int(np.prod(voxels.shape[3:]))  # an axis of time or of vectors
    return MaskVolume(voxels.reshape(*voxels.shape[:3], channels), affine)


def _read_by_itk(path: Path) -> MaskVolume:
    if not is_text(path):
        raise UnreadableMask("its name is no text, and its reader takes no other")
    image = sitk.ReadImage(str(path))
    n = image.GetDimension()
    if n > 3:
        raise UnreadableMask(f"it has {n} dimensions")
    voxels = sitk.GetArrayFromImage(image)
    voxels = voxels if image.GetNumberOfComponentsPerPixel() > 1 else voxels[..., None]
    return MaskVolume(np.moveaxis(voxels, range(n), range(n)[::-1]), ras_affine_of_itk(image))
