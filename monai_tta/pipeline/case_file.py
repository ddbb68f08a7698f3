"""A case of several files, or one with prompts, as one small file, so that everything else treats it as an image.

The file lies in a temporary folder. It holds what the case consists of, with a hash of each file's content: where one of them
changes, or a prompt, the case is another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from monai_tta.pipeline.case_lists import ListedCase
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.prompts import PROMPTS
from monai_tta.pipeline.run_log import content_hash

ENDING = ".case"
_FAR = 0.1  # of a voxel: so much may a corner of one sequence lie beside the same corner of another


def write_case_file(case: ListedCase, folder: Path, prompts: Mapping[str, Any] | None = None) -> Path:
    """Write a case into a folder.

    Args:
        case: what it consists of.
        folder: a temporary one.
        prompts: what the network is asked for; None for nothing.

    Returns:
        the file, which is called like the case.
    """
    path = folder / f"{case.name}{ENDING}"
    content = {
        "files": [str(file.absolute()) for file in case.files],
        "hashes": [_hash_of(file) for file in case.files],
        "problem": case.problem,
        "prompts": prompts,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read_image(preprocessing: Any, image: Path) -> Any:
    """Preprocess an image, or a case that `write_case_file` wrote.

    Args:
        preprocessing: the bundle's.
        image: a file, the folder of a series, or a case's file.

    Returns:
        what preprocessing makes of it. The files of a case are the channels of its image.

    Raises:
        ValueError: for a case that lacks a file, or whose files lie differently in space.
    """
    if image.suffix != ENDING:
        check_input_file(image)
        return preprocessing({"image": str(image)})
    content = json.loads(image.read_text(encoding="utf-8"))
    if content["problem"]:
        raise ValueError(f"case {image.stem}: {content['problem']}")
    files = [Path(file) for file in content["files"]]
    for file in files:
        check_input_file(file)
    check_same_geometry(files)
    paths: Any = [str(file) for file in files] if len(files) > 1 else str(files[0])
    data = preprocessing({"image": paths, **(content["prompts"] or {})})
    meta = getattr(data["image"], "meta", None)
    if len(files) > 1 and meta is not None:
        meta["filename_or_obj"] = str(files[0].with_name(f"{image.stem}.nii.gz"))  # the mask is named after the case
    if content["prompts"] is not None:
        data[PROMPTS] = sorted(content["prompts"])
    return data


def check_same_geometry(files: Sequence[Path]) -> None:
    """Check that images lie on one grid: the same shape, and each corner in the same place. Folders are left to their reader.

    Args:
        files: of one case.

    Raises:
        ValueError: naming the file that differs, or that holds several channels itself.
    """
    if len(files) < 2:
        return
    first: tuple[tuple[int, ...], Any] | None = None
    for file in files:
        if file.is_dir():
            continue
        shape, affine = _grid(file)
        if first is None:
            first = (shape, affine)
            continue
        if shape != first[0]:
            raise ValueError(
                f"{file.name} is {_size(shape)} and {files[0].name} {_size(first[0])}: the files of a case need one grid; "
                "resample them first"
            )
        far = _corner_distance(shape, first[1], affine)
        if far > _FAR:
            raise ValueError(
                f"{file.name} lies up to {far:.3g} voxels beside {files[0].name}: the files of a case need one grid; resample "
                "them first"
            )


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _grid(file: Path) -> tuple[tuple[int, ...], Any]:
    """Shape and affine (index to world, 4 x 4) of an image file, from its header alone."""
    if file.name.lower().endswith((".nii", ".nii.gz")):
        image: Any = nib.load(file)
        shape = tuple(int(n) for n in image.shape)
        affine = np.asarray(image.affine, float)
        channels = int(np.prod(shape[3:])) if len(shape) > 3 else 1
        shape = shape[:3]
    else:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        shape, channels = tuple(reader.GetSize()), reader.GetNumberOfComponents()
        dims = len(shape)
        affine = np.eye(4)
        if dims <= 3:
            affine[:dims, :dims] = np.reshape(reader.GetDirection(), (dims, dims)) * reader.GetSpacing()
            affine[:dims, 3] = reader.GetOrigin()
            affine[:2] *= -1  # ITK's first two axes point the other way than nibabel's
    if channels > 1:
        raise ValueError(f"{file.name} holds {channels} channels itself; a file of a case is one channel")
    return shape, affine


def _corner_distance(shape: Sequence[int], one: Any, other: Any) -> float:
    """How far the corners of a grid lie apart by two affines, in voxels of the first."""
    ends = [(0, max(n - 1, 0)) for n in (*shape, 1, 1)[:3]]
    corners = np.array([[x, y, z, 1] for x in ends[0] for y in ends[1] for z in ends[2]], float).T
    voxels = np.linalg.inv(one) @ other @ corners
    return float(np.abs(voxels - corners).max())


def _hash_of(file: Path) -> str:
    if file.is_dir():
        return "".join(content_hash(path) for path in sorted(file.iterdir()))
    try:
        return content_hash(file)
    except OSError:
        return "unreadable"  # it fails when its turn comes, and says why
