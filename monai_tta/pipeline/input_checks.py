"""What is wrong with an image file, told before a reader asks for the memory that its header declares."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_tta.pipeline.ask_itk import itk_header
from monai_tta.pipeline.declared_place import DeclaredPlace, place_of_affine, ras_affine_of_itk
from monai_tta.pipeline.dicom_marks import is_dicom
from monai_tta.pipeline.nifti_forms import nifti_place
from monai_tta.pipeline.picture_checks import check_picture
from monai_tta.pipeline.series_checks import dicom_file_place, series_place

_GZIP_LIMIT = 1032  # gzip cannot make data smaller by more than this factor
_BYTES_PER_NUMBER = 2 * 4  # of memory: the image in float32, and the one copy that preprocessing makes of it


def check_input_file(image: Path) -> DeclaredPlace | None:
    """Refuse an image that no reader should be given. A kind of file that is unknown here is left to the bundle's readers.

    Returns:
        where its header puts it, for `check_loaded_place`; None where it does not say, as a photograph.

    Raises:
        FileNotFoundError: for a path that does not exist, or a link that leads nowhere.
        ValueError: for a device or pipe; an empty file; a header that declares more than the file holds or the machine has memory
            for; a geometry that places no voxel, or that programs do not agree on; a folder whose DICOM files do not make one
            straight volume; a picture that cannot be shown in one way, see `check_picture`.
    """
    if not image.exists():
        raise FileNotFoundError(f"{image} is a link that leads nowhere" if image.is_symlink() else f"{image} does not exist")
    if image.is_dir():
        return series_place(image)
    if not image.is_file():
        raise ValueError(f"{image} is no file but a device or a pipe")
    if image.stat().st_size == 0:
        raise ValueError(f"{image} is empty")
    if image.name.lower().endswith((".nii", ".nii.gz")):
        return _check_nifti(image)
    check_picture(image)
    header = itk_header(image)
    if header is not None:
        _check_memory(image, (*header.GetSize(), header.GetNumberOfComponents()))
    if is_dicom(image):
        return dicom_file_place(image)
    if header is not None and image.name.lower().endswith((".mha", ".mhd", ".nrrd")) and header.GetDimension() > 2:
        return place_of_affine(tuple(header.GetSize()), ras_affine_of_itk(header), image.name)
    return None


def _check_nifti(image: Path) -> DeclaredPlace | None:
    try:
        found: Any = nib.load(image)
        shape = found.header.get_data_shape()
        kind = found.header.get_data_dtype()
        offset = int(found.dataobj.offset)
        affine = np.asarray(found.affine, float)
    except Exception as error:  # nibabel raises errors of many kinds; some of its messages are a bare number
        words = f"{type(error).__name__}: {error}"
        raise ValueError(f"{image} has no readable NIfTI header, it is damaged or mislabelled ({words})") from None
    _check_memory(image, shape)
    if offset < 0 or kind.itemsize == 0:
        raise ValueError(f"{image} has a header that places its voxels nowhere (offset {offset}, type {kind})")
    if kind.kind == "c":
        raise ValueError(f"{image} holds complex numbers; give their magnitude")
    declared = offset + prod(map(int, shape)) * kind.itemsize
    held = image.stat().st_size
    is_packed = image.name.lower().endswith(".gz")
    if declared > held * (_GZIP_LIMIT if is_packed else 1):
        raise ValueError(
            f"{image} declares {_size_text(declared)} {shape} and holds {_size_text(held)}: truncated, or its header is wrong"
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"{image} has an affine that places its voxels nowhere (singular or not finite); repair its header")
    return nifti_place(image, found, itk_header(image))


def _check_memory(image: Path, shape: tuple[int, ...]) -> None:
    """Refuse a shape without voxels, or with more than the machine has memory for."""
    if len(shape) == 0 or min(map(int, shape)) < 1:
        raise ValueError(f"{image} has no voxels: its shape is {tuple(shape)}")
    needed = prod(map(int, shape)) * _BYTES_PER_NUMBER
    memory = _memory()
    if memory and needed > memory:
        raise ValueError(
            f"{image} declares {tuple(shape)}, at least {_size_text(needed)} of memory; there are {_size_text(memory)}"
        )


def _memory() -> int | None:
    """The memory, in bytes, that this machine or the container has altogether; None where it does not say."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no container, or one without a limit
        return found


def _size_text(n_bytes: float) -> str:
    """A number of bytes in its usual unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TiB"
