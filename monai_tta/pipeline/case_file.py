"""A case of several files, or one with prompts, as one small file, so that everything else treats it as an image.

The file lies in a temporary folder. It holds what the case consists of, with a hash of each file's content: where one of them
changes, or a prompt, the case is another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_tta.pipeline.ask_itk import itk_header
from monai_tta.pipeline.case_lists import ListedCase
from monai_tta.pipeline.content_hashes import CASE_ENDING as ENDING
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.declared_place import TOLERANCE, ras_affine_of_itk, voxels_apart


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
        "hashes": [content_id(file) for file in case.files],
        "problem": case.problem,
        "prompts": prompts,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@dataclass(frozen=True)
class CaseContent:
    """What a case consists of.

    Args:
        files: in the order of the channels; one for an image by itself.
        prompts: what the network is asked for; None where nobody asked.
    """

    files: tuple[Path, ...]
    prompts: Mapping[str, Any] | None = None


def content_of(image: Path) -> CaseContent:
    """What a case that `write_case_file` wrote consists of; any other file or folder is an image by itself.

    Raises:
        ValueError: for a case that is not whole.
    """
    if image.suffix != ENDING:
        return CaseContent((image,))
    content = json.loads(image.read_text(encoding="utf-8"))
    if content["problem"]:
        raise ValueError(f"case {image.stem}: {content['problem']}")
    return CaseContent(files_of(image), content["prompts"])


def files_of(image: Path) -> tuple[Path, ...]:
    """The files of a case, also of one that is not whole; any other file or folder is an image by itself."""
    if image.suffix != ENDING:
        return (image,)
    return tuple(Path(file) for file in json.loads(image.read_text(encoding="utf-8"))["files"])


def label_of(image: Path, name: str) -> str:
    """What messages call an image: its file's name where that says its name, else its name and its file's.

    Args:
        image: a file, a folder, or a case that `write_case_file` wrote.
        name: what it is called, see `monai_tta.pipeline.image_names.image_names`; "" for its file's name.
    """
    file = image.name
    if image.suffix == ENDING:
        return name or image.stem
    return file if not name or file == name or file.startswith(f"{name}.") else f"{name} ({file})"


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
        shape, affine, channels = grid_of(file)
        if channels > 1:
            raise ValueError(f"{file.name} holds {channels} channels itself; a file of a case is one channel")
        if first is None:
            first = (shape, affine)
            continue
        if shape != first[0]:
            raise ValueError(
                f"{file.name} is {_size(shape)} and {files[0].name} {_size(first[0])}: the files of a case need one grid; "
                "resample them first"
            )
        far = voxels_apart(first[1], affine, shape)
        if not far <= TOLERANCE:
            raise ValueError(
                f"{file.name} lies up to {far:.3g} voxels beside {files[0].name}: the files of a case need one grid; resample "
                "them first"
            )


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def grid_of(file: Path) -> tuple[tuple[int, ...], Any, int]:
    """Shape, affine (index to world, 4 x 4) and number of channels of an image file, from its header alone.

    Args:
        file: a file that nibabel or ITK reads.

    Raises:
        ValueError: for another one.
    """
    if file.name.lower().endswith((".nii", ".nii.gz")):
        image: Any = nib.load(file)
        shape = tuple(int(n) for n in image.shape)
        channels = int(np.prod(shape[3:])) if len(shape) > 3 else 1
        return shape[:3], np.asarray(image.affine, float), channels
    header = itk_header(file)
    if header is None:
        raise ValueError(f"{file.name} has a header that cannot be read, so where its voxels lie is unknown")
    return tuple(header.GetSize()), ras_affine_of_itk(header), header.GetNumberOfComponents()
