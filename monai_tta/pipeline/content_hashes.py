"""What an image or a file consists of, as a hash: what changes within it is noticed, whatever its name and its dates say."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

CASE_ENDING = ".case"  # of a file that says what a case consists of, see `monai_tta.pipeline.case_file`
_WITH_COMPANIONS = (".mhd", ".nhdr", ".hdr", ".img", ".img.gz")  # endings of images whose voxels or header lie in another file


def content_id(image: Path) -> str:
    """A hash of all that an image consists of: the whole file, the contents of all files in a folder, or those of a case.

    Names are not in it: it stands in records, and a copy of an image is the same image. A header whose voxels lie in another file
    is hashed with all files beside it that are called alike or that it names. Reading everything once takes about a second for
    1 to 2 GB that are in memory, and as long as the disk takes otherwise.
    """
    digest = hashlib.sha256()
    try:
        digest.update("/".join(_hashes_in(image)).encode())
    except (OSError, ValueError, KeyError, TypeError):
        digest.update(b"unreadable")  # the image fails when its turn comes, and says why
    return digest.hexdigest()[:32]


def _hashes_in(image: Path) -> list[str]:
    if image.suffix == CASE_ENDING:
        content = json.loads(image.read_text(encoding="utf-8"))
        return [json.dumps(content[part]) for part in ("hashes", "prompts", "problem")]
    if image.is_dir():
        return sorted(content_hash(path) for path in image.iterdir() if path.is_file())
    first, *beside = _files_of(image)
    return [content_hash(first), *sorted(map(content_hash, beside))]


def _files_of(image: Path) -> list[Path]:
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
