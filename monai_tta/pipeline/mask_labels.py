"""How much of each label is in a mask: voxels and millilitres, or pixels and square millimetres, as the written file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tta.pipeline.ask_itk import itk_header
from monai_tta.pipeline.dicom_marks import is_dicom
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.mask_formats import DICOM_SEG, ENDINGS_OF_FORMATS
from monai_tta.pipeline.mask_volumes import MaskVolume, UnreadableMask, read_volume

LONGEST_TEXT = 64  # characters of a short text in DICOM, such as a segment's label
MOST_LABELS = 300  # a mask with more different values numbers objects, and does not name structures
_CHUNK = 1 << 20  # voxels that are sorted at once


class UnknownLabels(ValueError):
    """What is in a mask cannot be counted; the message says why."""


@dataclass(frozen=True)
class LabelNames:
    """What a bundle calls the labels of its masks, by its ``metadata.json``.

    Args:
        channels: the name of each channel of the network's answer, by number from 0.
        values: what the values of its masks stand for, where the bundle says so itself (``mask_values``); else None.
    """

    channels: Mapping[int, str]
    values: Mapping[int, str] | None = None

    @classmethod
    def of_metadata(cls, metadata: Any) -> LabelNames:
        """The names in a bundle's metadata: ``channel_def`` of its one output, or of the one that is called ``pred``.

        Args:
            metadata: what ``metadata.json`` holds. What is missing there, or is of another form, gives no names.
        """
        output = output_of(metadata)
        return cls(_numbered(output.get("channel_def")), _numbered(output.get("mask_values")) or None)


@dataclass(frozen=True)
class LabelAmount:
    """How much of one label is in a case's masks.

    Args:
        name: the bundle's name for it; None where the bundle does not say which label this is.
        value: its value in the mask; None where every value that is not 0 means it.
        channel: the mask's channel that holds it; None in a mask of one channel.
        file: the mask's last name, where a case has several masks; else None.
        count: voxels, or pixels of a flat mask.
        flat: whether the mask is 2D.
        size: of one voxel in ml, or of one pixel in mm2; None where the spacing is unknown.
    """

    name: str | None
    value: int | None
    channel: int | None
    file: str | None
    count: int
    flat: bool
    size: float | None

    def on_record(self) -> dict[str, Any]:
        """The entry in a record."""
        amount = None if self.size is None else self.count * self.size
        counted = {"pixels": self.count, "mm2": amount} if self.flat else {"voxels": self.count, "ml": amount}
        place = {"value": self.value, "channel": self.channel, "file": self.file}
        return {"name": self.name, **{key: of for key, of in place.items() if of is not None}, **counted}


def output_of(metadata: Any) -> dict[str, Any]:
    """What a bundle's metadata says of its one output, or of the one that is called ``pred``; empty where it does not say.

    Args:
        metadata: what ``metadata.json`` holds.
    """
    formats = metadata.get("network_data_format") if isinstance(metadata, dict) else None
    outputs = formats.get("outputs") if isinstance(formats, dict) else None
    if not isinstance(outputs, dict) or not outputs:
        return {}
    output = outputs.get("pred", next(iter(outputs.values())) if len(outputs) == 1 else None)
    return output if isinstance(output, dict) else {}


def amounts_in(masks: Sequence[Path], image: Path, names: LabelNames, head: str) -> list[LabelAmount]:
    """Count every label in the masks of one case.

    Args:
        masks: the files, as they were written.
        image: the file, or the folder of a DICOM series, that they were made of: whether its spacing is known.
        names: of the labels.
        head: "softmax" or "sigmoid": what the network's logits stand for, as the case's record says.

    Returns:
        an entry for each label that the bundle names, also where there is none of it, and for each further value.

    Raises:
        UnknownLabels: for a mask that cannot be read here, or that holds no labels but fractions or numbered objects.
    """
    found: list[LabelAmount] = []
    spacing_known = has_spacing(image)
    for path in masks:
        file = path.name if len(masks) > 1 else None
        if path.name.lower().endswith(ENDINGS_OF_FORMATS[DICOM_SEG]):
            found += _in_segments(path, names, file)
            continue
        mask = read_mask(path)
        size = mask.size if spacing_known else None
        counts = [count_values(mask.voxels[..., k]) for k in range(mask.voxels.shape[-1])]
        for name, value, channel, count in _named(counts, names, head, file):
            found.append(LabelAmount(name, value, channel, file, count, mask.flat, size))
    return found


def _in_segments(path: Path, names: LabelNames, file: str | None) -> list[LabelAmount]:
    """The labels of a DICOM Segmentation. Their values are the numbers of the segments."""
    from monai_tta.pipeline.read_dicom_seg import segments_in

    try:
        segments, size = segments_in(path)
    except Exception as error:  # its package may be missing, and its reader raises errors of many kinds
        raise UnknownLabels(f"the mask's labels cannot be counted: it cannot be read ({type(error).__name__})") from error
    known = {*names.channels.values(), *(names.values or {}).values()}
    by_label = {name[:LONGEST_TEXT]: name for name in known}
    return [LabelAmount(by_label.get(label), number, None, file, n, False, size) for number, label, n in segments]


def read_mask(path: Path) -> MaskVolume:
    """Read a mask to count its labels, see `read_volume`.

    Raises:
        UnknownLabels: for one that cannot be read.
    """
    try:
        return read_volume(path)
    except UnreadableMask as error:
        raise UnknownLabels(f"the mask's labels cannot be counted: {error}") from error


def has_spacing(image: Path) -> bool:
    """Whether an image says how large its pixels are. Photographs do not; neither do DICOM files without a pixel spacing."""
    if image.is_file() and image.name.lower().endswith(PICTURES):
        return False
    file = (
        next((path for path in sorted(image.iterdir()) if path.is_file() and is_dicom(path)), None) if image.is_dir() else image
    )
    if file is None or not file.is_file() or not is_dicom(file):
        return True
    reader = itk_header(file)
    if reader is None:
        return True  # another reader has read it
    stated = any(reader.HasMetaDataKey(key) for key in ("0028|0030", "0018|1164", "0018|2010"))
    return stated or bool(reader.GetSpacing()[:2] != (1.0, 1.0))


def count_values(voxels: NDArray[Any]) -> dict[int, int]:
    """How often each value is there, of an array of any shape."""
    if voxels.dtype.kind not in "buif":
        raise UnknownLabels(f"the mask holds {voxels.dtype} and no labels")
    flat = voxels.reshape(-1).astype(np.uint8) if voxels.dtype.kind == "b" else voxels.reshape(-1)
    counts: dict[int, int] = {}
    for start in range(0, len(flat), _CHUNK):
        values, numbers = np.unique(flat[start : start + _CHUNK], return_counts=True)
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise UnknownLabels("the mask holds fractions and no labels")
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + number
        if len(counts) > MOST_LABELS:
            raise UnknownLabels(f"the mask holds more than {MOST_LABELS} different values: numbered objects and no labels")
    return counts


def _named(
    counts: list[dict[int, int]], names: LabelNames, head: str, file: str | None
) -> list[tuple[str | None, int | None, int | None, int]]:
    """Name, value, channel and count of each label of one mask.

    A name is given only where the mask's coding is certain. A wrong name is worse than none.
    """
    inside = [sum(number for value, number in of.items() if value != 0) for of in counts]
    if len(counts) > 1:  # a channel for each structure
        called = names.channels if len(counts) == len(names.channels) else {}
        return [(called.get(k), None, k, n) for k, n in enumerate(inside) if not _is_background(called.get(k))]
    (only,) = counts
    if names.values is not None:
        extra = {value for value in only if value not in names.values}
        known = [value for value, name in names.values.items() if not _is_background(name)]
        return [(names.values.get(value), value, None, only.get(value, 0)) for value in (*known, *sorted(extra))]
    own = [name for name in names.channels.values() if file is not None and _stem(file) == name]
    if own or (head == "sigmoid" and len(names.channels) == 1):  # a mask of one structure, whatever its value
        return [(own[0] if own else next(iter(names.channels.values())), None, None, inside[0])]
    structures = {value: name for value, name in names.channels.items() if value > 0}
    there = [value for value in only if value != 0]
    if head == "softmax" and len(structures) == 1 and len(there) <= 1:  # the one structure may be written as 255
        return [(next(iter(structures.values())), None, None, inside[0])]
    if head == "softmax" and structures and all(value in structures for value in there):
        return [(name, value, None, only.get(value, 0)) for value, name in structures.items()]
    return [(None, value, None, number) for value, number in sorted(only.items()) if value != 0]


def _is_background(name: str | None) -> bool:
    return name is not None and name.lower() == "background"


def _stem(file: str) -> str:
    return file.removesuffix(".gz").rsplit(".", 1)[0]


def _numbered(names: Any) -> dict[int, str]:
    """A dictionary of names by number, as JSON has it; empty for anything else."""
    try:
        return {int(number): " ".join(str(name).split()) for number, name in names.items()}
    except (AttributeError, ValueError, TypeError):
        return {}
