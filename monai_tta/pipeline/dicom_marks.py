"""What the beginning of a file says of DICOM, without a parser: whether it is some, of what kind, and of which series."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# How files begin that lack the mark: a tag of group 2 or 8 that comes first in practice, then a kind of value or a short length.
_UNMARKED = re.compile(rb"(?:\x02\x00[\x00-\x02]|\x08\x00[\x00\x01\x05\x08\x12\x16])\x00(?:[A-Z]{2}|[\x01-\x7f]\x00\x00\x00)")
_READ = 1 << 14  # bytes; the modality stands among the first tags
_MODALITY = re.compile(rb"\x08\x00\x60\x00(?:CS..|..\x00\x00)([A-Z]+)", re.DOTALL)
_KIND = re.compile(rb"\x08\x00\x16\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
_SERIES = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
NO_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "DOC", "FID", "RWV", "ECG", "HD", "AU")
# The kinds of files, by their SOP class, that hold a volume whose frames say where they lie.
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # CT that was converted to it
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4",  # MR that was converted to it
    "1.2.840.10008.5.1.4.1.1.128.1",  # PET that was converted to it
    "1.2.840.10008.5.1.4.1.1.130",  # Enhanced PET
}


@dataclass(frozen=True)
class DicomMark:
    """What the beginning of a DICOM file says.

    Args:
        modality: such as "CT"; "" where it does not say.
        series: the UID of its series; "" where it does not say, or names several, such as those that it refers to.
        kind: the UID of its SOP class; "" where it does not say.
    """

    modality: str
    series: str = ""
    kind: str = ""

    @property
    def is_enhanced(self) -> bool:
        """Whether the file is an Enhanced CT, MR or PET image, which holds a volume by itself."""
        return self.kind in ENHANCED


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
    kind = _KIND.search(start)
    series = {found[1].decode() for found in _SERIES.finditer(start)}
    return DicomMark(
        modality="" if modality is None else modality[1].decode(),
        series=series.pop() if len(series) == 1 else "",
        kind="" if kind is None else kind[1].decode(),
    )


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM, with or without the mark, see `read_mark`.

    Raises:
        OSError: for a file that cannot be read.
    """
    return read_mark(file) is not None
