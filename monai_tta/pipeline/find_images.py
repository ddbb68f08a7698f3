"""Which files and folders are images: what a person means by "these scans"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm")


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The images among files and folders: files as given; a folder with a DICOM series in it as one image; of any other
    folder the image files (by their ending) and the series folders in it, in the order of their names. A link in a folder
    that leads nowhere counts as an image, which then fails, lest it be missed by nobody.

    Raises:
        ValueError: for a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        named = path if path.name not in ("", "..") else path.resolve()  # masks are called after their images
        inside = _inside(named) if named.is_dir() else [named]
        if not inside:
            raise ValueError(f"{path} holds no image: none of {', '.join(ENDINGS)}, no DICOM series, also not one folder down")
        found += inside
    return found


def outside(out: Path, given: Iterable[Path]) -> None:
    """Refuse an output folder that images are read from, where the next run would take masks for images.

    Raises:
        ValueError: when it is one of the folders given.
        OSError: when it is no folder, or what is to be written there is one.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; --out is a folder")
    if (out / "records.json").is_dir():
        raise IsADirectoryError(f"{out / 'records.json'} is a folder, and would be a file; give another --out")
    for folder in given:
        if folder.is_dir() and folder.resolve() == out.resolve():
            raise ValueError(f"{out} is where images are read from; the next run would take masks for images: give another --out")


def _inside(folder: Path) -> list[Path]:
    if is_series(folder):
        return [folder]
    here = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    return [p for p in here if (_looks_like_one(p) if not p.is_dir() else is_series(p))]


def _looks_like_one(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS) and (path.is_file() or (path.is_symlink() and not path.exists()))


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file: "DICM" after 128 bytes, whatever the file is called."""
    return any(_is_dicom(file) for file in folder.iterdir() if file.is_file() and not file.name.lower().endswith(ENDINGS))


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
