"""In which file formats a run can write its masks, besides the one in which the bundle writes them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from monai_tta.pipeline.image_names import name_of

DICOM_SEG = "dicom-seg"
ENDINGS_OF_FORMATS = {"nrrd": ".nrrd", "mha": ".mha", DICOM_SEG: ".dcm"}
OLDER_FORMAT = "a file of an earlier run, in another format, lies beside the mask under its name; remove it"
_MASK_ENDINGS = (".nii.gz", ".nii", *ENDINGS_OF_FORMATS.values())


def check_format(wanted: str | None) -> None:
    """Check that masks can be written in a format here.

    Args:
        wanted: a format's name; None for what the bundle writes.

    Raises:
        ValueError: for a format that there is not, or whose package is not installed.
    """
    if wanted is None:
        return
    if wanted not in ENDINGS_OF_FORMATS:
        raise ValueError(f"--format is one of {', '.join(ENDINGS_OF_FORMATS)}; found {wanted!r}")
    if wanted == DICOM_SEG and find_spec("highdicom") is None:
        raise ValueError('--format dicom-seg needs the package highdicom: pip install "monai-tta[dicom]"')


def other_formats(file: Path) -> list[Path]:
    """What lies beside a mask, or a map of its uncertainty, and has its name and the ending of another file format."""
    name = name_of(file)
    return [other for end in _MASK_ENDINGS if (other := file.with_name(f"{name}{end}")) != file and other.is_file()]
