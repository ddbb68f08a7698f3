"""What an image or a file consists of, as a hash: what changes within it is noticed, whatever its name and its dates say."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_WITH_COMPANIONS = (".mhd", ".nhdr", ".hdr", ".img", ".img.gz")  # endings of images whose voxels or header lie in another file


def content_id(image: Path) -> str:
    """A hash of all that an image consists of: the whole file, or the names and contents of all files in a folder.

    A header whose voxels lie in another file is hashed with all files beside it that are called alike or that it names. Reading
    everything once takes about a second for 1 to 2 GB that are in memory, and as long as the disk takes otherwise.
    """
    digest = hashlib.sha256()
    try:
        for file in _files_of(image):
            digest.update(os.fsencode(file.name) + f"/{content_hash(file)}/".encode())
    except OSError:
        digest.update(b"unreadable")  # the image fails when its turn comes, and says why
    return digest.hexdigest()[:32]


def _files_of(image: Path) -> list[Path]:
    if image.is_dir():
        return sorted(path for path in image.iterdir() if path.is_file())
    if not image.name.lower().endswith(_WITH_COMPANIONS):
        return [image]
    stem = image.name.split(".")[0]
    with image.open("rb") as file:
        header = file.read(1 << 16)
    beside = (path for path in image.parent.iterdir() if path != image and path.is_file())
    return [image, *sorted(path for path in beside if path.name.startswith(stem) or os.fsencode(path.name) in header)]


def content_hash(path: Path) -> str:
    """A hash of a whole file; "" where there is none."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]
