"""What is wrong with an image file, told before a reader asks for the memory that its header declares."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from monai_tta.pipeline.picture_checks import check_picture

_GZIP_LIMIT = 1032  # gzip cannot make data smaller by more than this factor
_BYTES_PER_NUMBER = 2 * 4  # of memory: the image in float32, and the one copy that preprocessing makes of it


def check_input_file(image: Path) -> None:
    """Refuse an image that no reader should be given. A kind of file that is unknown here is left to the bundle's readers.

    Raises:
        FileNotFoundError: for a path that does not exist, or a link that leads nowhere.
        ValueError: for a device or pipe; an empty file; a header that declares more than the file holds or the machine has memory
            for; a geometry that places no voxel; a folder with several DICOM series, or with slices missing; a picture that
            cannot be shown in one way, see `check_picture`.
    """
    if not image.exists():
        raise FileNotFoundError(f"{image} is a link that leads nowhere" if image.is_symlink() else f"{image} does not exist")
    if image.is_dir():
        return _check_series(image)
    if not image.is_file():
        raise ValueError(f"{image} is no file but a device or a pipe")
    if image.stat().st_size == 0:
        raise ValueError(f"{image} is empty")
    if image.name.lower().endswith((".nii", ".nii.gz")):
        return _check_nifti(image)
    check_picture(image)
    reader = sitk.ImageFileReader()
    if _ask_itk(lambda: (reader.SetFileName(str(image)), reader.ReadImageInformation())):
        _check_memory(image, (*reader.GetSize(), reader.GetNumberOfComponents()))


def _check_nifti(image: Path) -> None:
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


def _check_series(folder: Path) -> None:
    """One series, with slices that are evenly apart. Of several, the reader would take one and not say so."""
    if odd := [path for path in folder.iterdir() if path.exists() and not path.is_file() and not path.is_dir()]:
        raise ValueError(f"{folder} holds {odd[0].name}, which is no file but a device or a pipe")
    series = _ask_itk(lambda: sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder), True)) or ()
    if len(series) > 1:
        raise ValueError(f"{folder} holds {len(series)} DICOM series; give each a folder of its own")
    for name in series:
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name, True)
        positions = [position for file in files if (position := _slice_position(file)) is not None]
        steps = np.diff(sorted(positions))
        if len(steps) and steps.max() > 1.5 * max(float(np.median(steps)), 1e-3):
            raise ValueError(
                f"{folder} has slices {steps.max():.3g} mm apart where {np.median(steps):.3g} mm is usual: some are missing"
            )


def _slice_position(file: str) -> float | None:
    """Where a slice lies along its own normal, in mm; None where the file does not say."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    if not _ask_itk(lambda: reader.ReadImageInformation() or True):
        return None
    try:
        origin = np.array(reader.GetMetaData("0020|0032").split("\\"), float)
        directions = np.array(reader.GetMetaData("0020|0037").split("\\"), float)
        return float(np.cross(directions[:3], directions[3:]) @ origin)
    except (RuntimeError, ValueError):
        return None


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


def _ask_itk(question: Callable[[], Any]) -> Any:
    """What ITK answers; None where it cannot. Its warnings are silenced: they are about files that another reader may know."""
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return question()
    except (RuntimeError, UnicodeError):
        return None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


def _size_text(n_bytes: float) -> str:
    """A number of bytes in its usual unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TiB"
