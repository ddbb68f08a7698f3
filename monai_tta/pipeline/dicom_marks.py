"""What the beginning of a file says of DICOM, without a parser: whether it is some, of what modality, and of which series."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# How files begin that lack the mark: a tag of group 2 or 8 that comes first in practice, then a kind of value or a short length.
_UNMARKED = re.compile(rb"(?:\x02\x00[\x00-\x02]|\x08\x00[\x00\x01\x05\x08\x12\x16])\x00(?:[A-Z]{2}|[\x01-\x7f]\x00\x00\x00)")
_READ = 1 << 14  # bytes; the modality stands among the first tags
_MODALITY = re.compile(rb"\x08\x00\x60\x00(?:CS..|..\x00\x00)([A-Z]+)", re.DOTALL)
_SERIES = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
NO_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "DOC", "FID", "RWV", "ECG", "HD", "AU")


@dataclass(frozen=True)
class DicomMark:
    """What the beginning of a DICOM file says.

    Args:
        modality: such as "CT"; "" where it does not say.
        series: the UID of its series; "" where it does not say, or names several, such as those that it refers to.
    """

    modality: str
    series: str = ""


def read_mark(file: Path) -> DicomMark | None:
    """The mark of a DICOM file; None where the file is no DICOM.

    A file is DICOM by "DICM" after 128 bytes, or by how files without that mark begin.

    Raises:
        OSError: for a file that cannot be read.
    """
    with file.open("rb") as stream:
        start = stream.read(_READ)
    if start[128:132] != b"DICM" and _UNMARKED.match(start) is None:
        return None
    modality = _MODALITY.search(start)
    series = {found[1].decode() for found in _SERIES.finditer(start)}
    return DicomMark("" if modality is None else modality[1].decode(), series.pop() if len(series) == 1 else "")


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM, with or without the mark, see `read_mark`.

    Raises:
        OSError: for a file that cannot be read.
    """
    return read_mark(file) is not None
