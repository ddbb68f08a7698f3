"""What each file of a DICOM series says of itself, and which of them a reader takes for one series."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from monai_tta.pipeline.ask_itk import ask_itk, itk_header
from monai_tta.pipeline.declared_place import Numbers

SERIES = "0020|000e"
KIND_OF_OBJECT = "0008|0016"
ORIENTATION, POSITION, FRAME = "0020|0037", "0020|0032", "0020|0052"
PIXEL_SPACING, PHOTOMETRIC, FRAMES = "0028|0030", "0028|0004", "0028|0008"
SLOPE, INTERCEPT = "0028|1053", "0028|1052"
IMAGE_TYPE, SERIES_DATE = "0008|0008", "0008|0021"
SERIES_NUMBER, SERIES_DESCRIPTION = "0020|0011", "0008|103e"
THICKNESS = "0018|0050"
# By these ITK takes one series for several, in words for messages.
SPLITS_BY = {
    SERIES_NUMBER: "series number",
    "0018|0024": "sequence name",
    THICKNESS: "slice thickness",
    SERIES_DATE: "series date",
    "0028|0010": "number of rows",
    "0028|0011": "number of columns",
}
# By these several images of one place differ.
REPEATS_BY = {
    "0020|0012": "acquisition number",
    "0020|0100": "time point",
    "0018|1060": "trigger time",
    "0008|0032": "acquisition time",
    "0018|0086": "echo number",
    "0018|0081": "echo time",
    "0018|9087": "b-value",
    "0018|1210": "reconstruction kernel",
    IMAGE_TYPE: "image type",
}
_KEPT = {
    *(
        SERIES,
        KIND_OF_OBJECT,
        ORIENTATION,
        POSITION,
        FRAME,
        PIXEL_SPACING,
        PHOTOMETRIC,
        FRAMES,
        SLOPE,
        INTERCEPT,
        IMAGE_TYPE,
        SERIES_DATE,
        SERIES_DESCRIPTION,
    ),
    *SPLITS_BY,
    *REPEATS_BY,
}
# What the first bytes of a file say it is: its kind has a number that begins so. None of these holds an image.
_NO_IMAGES = (
    "1.2.840.10008.1.3.10",  # DICOMDIR
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
    "1.2.840.10008.5.1.4.1.1.66",  # registrations and other spatial data
    "1.2.840.10008.5.1.4.1.1.88.",  # reports
    "1.2.840.10008.5.1.4.1.1.104.",  # documents
    "1.2.840.10008.5.1.4.1.1.481.3",  # structure sets
    "1.2.840.10008.5.1.4.1.1.481.5",  # plans
    "1.2.840.10008.5.1.4.34.",
)
_KINDS: dict[int, str] = {
    sitk.sitkUInt8: "u1",
    sitk.sitkInt8: "i1",
    sitk.sitkUInt16: "u2",
    sitk.sitkInt16: "i2",
    sitk.sitkUInt32: "u4",
    sitk.sitkInt32: "i4",
    sitk.sitkUInt64: "u8",
    sitk.sitkInt64: "i8",
    sitk.sitkFloat32: "f4",
    sitk.sitkFloat64: "f8",
}


@dataclass(frozen=True)
class SliceHeader:
    """One file's header, or that of one of its frames.

    Args:
        file: the file.
        tags: its attributes, those of `_KEPT` that it has.
        size: columns and rows.
        kind: what its numbers are after rescaling, as numpy writes it; None for colours.
        frame: which of the file's frames, from 1; 0 for the whole file.
    """

    file: Path
    tags: dict[str, str]
    size: tuple[int, int]
    kind: str | None
    frame: int = 0

    @property
    def name(self) -> str:
        """The file's name, with the frame's number where it is one."""
        return f"frame {self.frame} of {self.file.name}" if self.frame else self.file.name

    @property
    def n_frames(self) -> int:
        """How many images the file holds."""
        frames = self.numbers(FRAMES)
        return 1 if frames is None else int(frames[0])

    def numbers(self, tag: str, count: int = 1) -> Numbers | None:
        """An attribute as so many numbers; None where it is missing or something else."""
        try:
            found = np.array(self.tags[tag].split("\\"), float)
        except (KeyError, ValueError):
            return None
        return found if len(found) == count and bool(np.isfinite(found).all()) else None

    @property
    def has_place(self) -> bool:
        """Whether the file says where its pixels lie. The members below are for such files."""
        return not self.missing

    @cached_property
    def missing(self) -> str:
        """What a file lacks to say where its pixels lie; "" where it says so."""
        directions, spacing = self.numbers(ORIENTATION, 6), self.numbers(PIXEL_SPACING, 2)
        if directions is None or float(np.linalg.norm(np.cross(directions[:3], directions[3:]))) < 1e-3:
            return "the orientation (ImageOrientationPatient)"
        if spacing is None or spacing.min() <= 0:
            return "the pixel spacing"
        return "the position (ImagePositionPatient)" if self.numbers(POSITION, 3) is None else ""

    @cached_property
    def position(self) -> Numbers:
        """Where the middle of the first pixel lies, ``(3,)`` in mm, in DICOM's axes (LPS)."""
        return self._needed(POSITION, 3)

    @cached_property
    def steps(self) -> Numbers:
        """From one column to the next, and from one row to the next, ``(2, 3)`` in mm."""
        spacing = self._needed(PIXEL_SPACING, 2)
        return np.asarray(self._needed(ORIENTATION, 6).reshape(2, 3) * spacing[::-1, None])  # the first spacing is that of rows

    @cached_property
    def normal(self) -> Numbers:
        """The unit vector across the slice, ``(3,)``."""
        normal = np.cross(*self.steps)
        return np.asarray(normal / np.linalg.norm(normal))

    def corners(self) -> Numbers:
        """The four corner pixels, ``(4, 3)`` in mm, in LPS, relative to the first pixel."""
        columns, rows = self.size
        return np.asarray(np.array([[i, j] for i in (0, columns - 1) for j in (0, rows - 1)], float) @ self.steps)

    def _needed(self, tag: str, count: int) -> Numbers:
        found = self.numbers(tag, count)
        if found is None:
            raise ValueError(f"{self.name} has no {tag}")
        return found


def read_slice(file: Path) -> SliceHeader | None:
    """A file's header; None where ITK finds no DICOM image in it."""
    reader = itk_header(file, "GDCMImageIO")
    if reader is None:
        return None
    tags = {}
    for tag in _KEPT & set(reader.GetMetaDataKeys()):
        if text := (ask_itk(partial(reader.GetMetaData, tag)) or "").strip(" \0"):
            tags[tag] = text
    columns, rows = reader.GetSize()[:2]
    return SliceHeader(file, tags, (columns, rows), _KINDS.get(reader.GetPixelID()))


def read_pixels(file: Path) -> Any:
    """A file's numbers after rescaling; None where they cannot be read."""
    reader = itk_header(file, "GDCMImageIO")
    image = None if reader is None else ask_itk(reader.Execute)
    return None if image is None else sitk.GetArrayFromImage(image)


def holds_no_image(file: Path) -> bool:
    """Whether a DICOM file says that it is a report, a plan, a directory or the like."""
    with file.open("rb") as stream:
        start = stream.read(1024)
    mark = start.find(b"\x02\x00\x02\x00UI", 132)  # the attribute that says what kind of object the file is
    if mark < 0:
        return False
    length = int.from_bytes(start[mark + 6 : mark + 8], "little")
    return start[mark + 8 : mark + 8 + length].decode("ascii", "replace").startswith(_NO_IMAGES)


def series_of_reader(folder: Path) -> list[list[Path]]:
    """The files of each series that MONAI's ITKReader finds in a folder, in its order. It reads the first series."""
    import itk  # the reader loads it, too; it takes seconds

    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.AddSeriesRestriction(SERIES_DATE)
    names.SetDirectory(str(folder))
    return [[Path(file) for file in names.GetFileNames(series)] for series in names.GetSeriesUIDs()]


def listed(headers: Iterable[SliceHeader]) -> str:
    """The names of some files, for a message."""
    names = [header.name for header in headers]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
