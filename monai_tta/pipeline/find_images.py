"""Which files and folders are images: what a person means by "these scans"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm")


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Find the images among files and folders.

    A file is one image, and so is a folder that holds a DICOM series. Of any other folder, all image files (by their ending) and
    all folders of DICOM series in it are images, in the order of their names. A link in a folder that leads nowhere counts as an
    image: it then fails, and nobody overlooks it.

    Args:
        paths: files and folders.

    Raises:
        ValueError: for a folder without any image.
    """
    found: list[Path] = []
    for path in paths:
        named = path if path.name not in ("", "..") else path.resolve()  # masks are named after their images
        inside = _images_in(named) if named.is_dir() else [named]
        if not inside:
            raise ValueError(f"{path} holds no image: none of {', '.join(ENDINGS)}, no DICOM series, also not one folder down")
        found += inside
    return found


def check_output_folder(out: Path, images: Iterable[Path]) -> None:
    """Refuse an output folder that images are read from: the next run would take masks for images.

    Raises:
        ValueError: for one of the folders of images.
        OSError: for an output folder that is a file, or a folder in the place of records.json or records.csv.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; --out is a folder")
    for name in ("records.json", "records.csv"):
        if (out / name).is_dir():
            raise IsADirectoryError(f"{out / name} is a folder, and would be a file; give another --out")
    for path in images:
        if path.is_dir() and path.resolve() == out.resolve():
            raise ValueError(f"{out} is where images are read from; the next run would take masks for images: give another --out")


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file: "DICM" after 128 bytes, whatever the file's name is."""
    return any(_is_dicom(file) for file in folder.iterdir() if file.is_file() and not file.name.lower().endswith(ENDINGS))


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _images_in(folder: Path) -> list[Path]:
    if is_series(folder):
        return [folder]
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in entries if (is_series(path) if path.is_dir() else _is_image_file(path))]


def _is_image_file(path: Path) -> bool:
    is_broken_link = path.is_symlink() and not path.exists()
    return path.name.lower().endswith(ENDINGS) and (path.is_file() or is_broken_link)
