"""Which files and folders are images: what a person means by "these scans"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm")


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The images among files and folders: files as given; a folder with a DICOM series in it as one image; of any other
    folder the image files (by their ending) and the series folders in it, in the order of their names.

    Raises:
        ValueError: for a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        inside = _inside(path) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path} holds no image: none of {', '.join(ENDINGS)}, no DICOM series, also not one folder down")
        found += inside
    return found


def _inside(folder: Path) -> list[Path]:
    if is_series(folder):
        return [folder]
    here = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    return [p for p in here if (p.is_file() and p.name.lower().endswith(ENDINGS)) or (p.is_dir() and is_series(p))]


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file: "DICM" after 128 bytes, whatever the file is called."""
    return any(_is_dicom(file) for file in folder.iterdir() if file.is_file() and not file.name.lower().endswith(ENDINGS))


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
