"""One image on its way to the network: checked, handed to the bundle's preprocessing as it is shown, named like its mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from monai.data.utils import create_file_basename
from torch import Tensor

from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.case_file import CaseContent, check_same_geometry, content_of
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.declared_place import check_loaded_place
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.input_keys import CORRECTION
from monai_tta.pipeline.picture_checks import Readable, readable_picture
from monai_tta.pipeline.prompts import PROMPTS
from monai_tta.pipeline.value_range import ExpectedRange, check_values, expected_range
from monai_tta.quality.corrections import Correction

_FILE = "filename_or_obj"  # where MONAI's readers note the file, and its writers look for a mask's name


@dataclass(frozen=True)
class LoadedImage:
    """An image after preprocessing.

    Args:
        data: what preprocessing returned.
        content: a hash of what was in the file before it was read; "" where none was asked for.
        notes: what a person should know of it, in words.
    """

    data: Any
    content: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """What reading an image gave: what the transform returned, and the files that its reader was given."""

    data: Any
    given: tuple[Readable, ...]
    case: CaseContent


def read_image(image: Path, transform: Any, expected: ExpectedRange, also: Mapping[str, Any] | None = None) -> _Read:
    """Check an image's files, and let a transform that loads read them.

    Args:
        image: an absolute path; see `load_image`.
        transform: the bundle's preprocessing, or its first steps.
        expected: what the bundle expects of its input.
        also: what else the transform gets, by key.

    Raises:
        ValueError: see `content_of`, `check_same_geometry`, `check_input_file`, `readable_picture` and `check_loaded_place`.
    """
    case = content_of(image)
    places = [check_input_file(file) for file in case.files]
    check_same_geometry(case.files)
    channels = expected.channels if len(case.files) == 1 else 1
    with ExitStack() as stack:
        given = [stack.enter_context(readable_picture(file, channels, expected.highest)) for file in case.files]
        paths = [str(one.path) for one in given]
        data = transform({"image": paths if len(paths) > 1 else paths[0], **(case.prompts or {}), **(also or {})})
    for place in places:
        check_loaded_place(image, place, data["image"])
    return _Read(data, tuple(given), case)


def load_image(
    image: Path,
    name: str,
    preprocessing: Any,
    expected: ExpectedRange,
    with_content: bool = False,
    correction: Correction | None = None,
) -> LoadedImage:
    """Check an image, and load it by the bundle's preprocessing.

    Args:
        image: a file, the folder of a series, or a case that `write_case_file` wrote. The files of a case are the channels of its
            image.
        name: what its mask is to be called, see `image_names`.
        preprocessing: of the bundle.
        expected: what the bundle expects of its input.
        with_content: whether to hash the file's content first.
        correction: what is applied to the image right after loading, where the preprocessing does so (`add_corrections`).

    Raises:
        ValueError: see `read_image` and `check_values`.
    """
    image = image.absolute()  # readers take a leading ~ for somebody's home
    content = content_id(image) if with_content else ""  # before it is read: what changes while it is read is done again
    read = read_image(image, preprocessing, expected, {} if correction is None else {CORRECTION: correction})
    name_for_saving(read.data, image, read.given[0].path, name)
    check_values(read.data["image"], expected, read.given[0].is_picture)
    if read.case.prompts is not None:
        read.data[PROMPTS] = sorted(read.case.prompts)
    return LoadedImage(read.data, content, tuple(dict.fromkeys(note for one in read.given for note in one.notes)))


def prepare_image(bundle: SourceBundle, preprocessing: Any, image: Path) -> Tensor:
    """An image as the network sees it, ``(C, *spatial)``, with every check that `load_image` makes; for what saves no mask.

    Args:
        bundle: the source.
        preprocessing: of the bundle.
        image: see `load_image`.

    Raises:
        ValueError: see `load_image`.
    """
    expected = expected_range(bundle.parser, preprocessing, bundle.network)
    read = read_image(image.absolute(), preprocessing, expected)
    prepared: Tensor = read.data["image"]
    check_values(prepared, expected, read.given[0].is_picture)
    return prepared


def name_for_saving(data: Any, image: Path, given: Path, name: str) -> None:
    """Let MONAI's writers call the masks of an image by its name, where they would not by themselves.

    They cut a name at its last dot, also that of a folder, and know no folders above it. What they take the name from is changed
    only where it would lead to another one, or to a copy that was given in the place of the image.

    Args:
        data: what preprocessing returned. Meta data in it that name the file are changed.
        image: the image.
        given: what the reader was given in its place.
        name: the name.
    """
    is_cut_right = Path(create_file_basename("", image.name, "", separate_folder=False, makedirs=False)).name == name
    file = image if is_cut_right else image.with_name(f"{name}.nii.gz")
    if file == given:
        return
    for meta in _metas(data):
        if str(meta.get(_FILE)) == str(given):
            meta[_FILE] = str(file)


def _metas(data: Any) -> Iterator[Any]:
    for value in data.values() if isinstance(data, dict) else ():
        if isinstance(value, MetaTensor):
            yield value.meta
        elif isinstance(value, dict):
            yield value
