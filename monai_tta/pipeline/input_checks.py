"""What is wrong with an image file, said before a reader asks for the memory that its header declares."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

_DEFLATE = 1032  # gzip can't make data smaller than one part in this many
_COPIES = 2 * 4  # bytes of memory per number: the image in float32, and the one thing that is made of it


def check_input_file(image: Path) -> None:
    """Refuse what no reader should be shown; anything else is left to the bundle's readers, also what is unknown here.

    Raises:
        FileNotFoundError: for nothing, or a link that leads nowhere.
        ValueError: for what is no file, an empty one, a header that declares more than the file holds or the machine has
            memory for, a geometry that places no voxel, or a folder of several DICOM series or with slices missing.
    """
    if not image.exists():
        raise FileNotFoundError(f"{image} is a link that leads nowhere" if image.is_symlink() else f"{image} does not exist")
    if image.is_dir():
        return _admit_series(image)
    if not image.is_file():
        raise ValueError(f"{image} is no file but a device or a pipe")
    if image.stat().st_size == 0:
        raise ValueError(f"{image} is empty")
    if image.name.lower().endswith((".nii", ".nii.gz")):
        return _admit_nifti(image)
    reader = sitk.ImageFileReader()
    if _quietly(lambda: (reader.SetFileName(str(image)), reader.ReadImageInformation())):
        _affordable(image, (*reader.GetSize(), reader.GetNumberOfComponents()))


def _admit_nifti(image: Path) -> None:
    try:
        found: Any = nib.load(image)
        shape, kind = found.header.get_data_shape(), found.header.get_data_dtype()
        offset, affine = int(found.dataobj.offset), np.asarray(found.affine, float)
    except Exception as error:  # nibabel raises of many kinds; some of its messages are a bare number
        words = f"{type(error).__name__}: {error}"
        raise ValueError(f"{image} has no readable NIfTI header, it is damaged or mislabelled ({words})") from None
    _affordable(image, shape)
    if offset < 0 or kind.itemsize == 0:
        raise ValueError(f"{image} has a header that places its voxels nowhere (offset {offset}, type {kind})")
    if kind.kind == "c":
        raise ValueError(f"{image} holds complex numbers; give their magnitude")
    declared, held = offset + prod(map(int, shape)) * kind.itemsize, image.stat().st_size
    packed = image.name.lower().endswith(".gz")
    if declared > held * (_DEFLATE if packed else 1):
        raise ValueError(f"{image} declares {_size(declared)} {shape} and holds {_size(held)}: truncated, or its header is wrong")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"{image} has an affine that places its voxels nowhere (singular or not finite); repair its header")


def _admit_series(folder: Path) -> None:
    """One series, its slices evenly apart: of several, the reader would take one and say nothing."""
    if odd := [p for p in folder.iterdir() if p.exists() and not p.is_file() and not p.is_dir()]:
        raise ValueError(f"{folder} holds {odd[0].name}, which is no file but a device or a pipe")
    series = _quietly(lambda: sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder), True)) or ()
    if len(series) > 1:
        raise ValueError(f"{folder} holds {len(series)} DICOM series; give each a folder of its own")
    for name in series:
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name, True)
        steps = np.diff(sorted(where for file in files if (where := _position(file)) is not None))
        if len(steps) and steps.max() > 1.5 * max(float(np.median(steps)), 1e-3):
            raise ValueError(
                f"{folder} has slices {steps.max():.3g} mm apart where {np.median(steps):.3g} mm is usual: some are missing"
            )


def _position(file: str) -> float | None:
    """Where a slice lies along its own normal, in mm; None where it doesn't say."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    if not _quietly(lambda: reader.ReadImageInformation() or True):
        return None
    try:
        origin, turned = (np.array(reader.GetMetaData(tag).split("\\"), float) for tag in ("0020|0032", "0020|0037"))
        return float(np.cross(turned[:3], turned[3:]) @ origin)
    except (RuntimeError, ValueError):
        return None


def _affordable(image: Path, shape: tuple[int, ...]) -> None:
    voxels = prod(map(int, shape))
    if len(shape) == 0 or min(map(int, shape)) < 1:
        raise ValueError(f"{image} has no voxels: its shape is {tuple(shape)}")
    memory = _memory()
    if memory and voxels * _COPIES > memory:
        raise ValueError(
            f"{image} declares {tuple(shape)}, at least {_size(voxels * _COPIES)} of memory; there are {_size(memory)}"
        )


def _memory() -> int | None:
    """What this machine, or the container we are in, has altogether; None where it doesn't say."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return found


def _quietly(ask: Callable[[], Any]) -> Any:
    """What ITK answers, None where it can't; what it prints on the way is about a file that another reader may know."""
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return ask()
    except (RuntimeError, UnicodeError):
        return None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


def _size(number: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
