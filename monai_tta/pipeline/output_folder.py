"""The folder for masks: one run at a time, or its shards, write into it, and every file comes there whole, in one move."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from monai_tta.pipeline.folder_locks import FOLDER_LOCK, hold, other_counts_at_work, shard_lock
from monai_tta.pipeline.shards import WHOLE, Shard

PARTIAL = ".partial-monai_tta-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class DiskFull(OSError):
    """The disk for masks is full or read-only. No image is to blame, and every further one would fail, too."""


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


@contextmanager
def partial_folder(out: Path, shard: Shard = WHOLE) -> Iterator[Path]:
    """A new folder inside ``out`` for what is being written. It is removed at the end, and so are those that killed runs left.

    For as long as it is there, no other process works on the same share of the images, nor on a share of another count.

    Args:
        out: the folder for masks.
        shard: the share of the images that this process works on.

    Raises:
        BlockingIOError: when another process does.
        OSError: when ``out`` cannot be made or written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with hold(out / FOLDER_LOCK, wait=True):
            is_locked = stack.enter_context(_hold_shard(out, shard))
            for left_behind in out.glob(f"{PARTIAL}*") if is_locked else ():
                is_ours = not _others_partial(left_behind.name, shard)
                if is_ours and left_behind.is_dir() and not left_behind.is_symlink():
                    shutil.rmtree(left_behind, ignore_errors=True)
            prefix = "-".join([PARTIAL.removesuffix("-"), *filter(None, [shard.in_file_names]), ""])
            partial = stack.enter_context(tempfile.TemporaryDirectory(dir=out, prefix=prefix))
        yield Path(partial)


@contextmanager
def _hold_shard(out: Path, shard: Shard) -> Iterator[bool]:
    """Hold the lock of a share; False where the file system has none."""
    what = "run" if shard.is_whole else f"process on shard {shard}"
    try:
        with hold(shard_lock(out, shard), wait=False) as is_locked:
            if others := other_counts_at_work(out, shard):
                what = "run" if others[0].is_whole else f"run, of {others[0].count} shards,"
                raise BlockingIOError
            yield is_locked
    except BlockingIOError as error:
        raise BlockingIOError(f"another {what} is writing into {out}: wait for it, or give another folder") from error


def _others_partial(name: str, shard: Shard) -> bool:
    """Whether a folder is that of another share of the same count, on which a process may be at work."""
    found = re.match(re.escape(PARTIAL) + r"(\d+)-of-(\d+)-", name)
    return found is not None and int(found[2]) == shard.count and int(found[1]) != shard.index


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a text (in UTF-8) or bytes to a temporary file, then move it to its place. After a failure nothing is left of it."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.unlink(missing_ok=True)  # a link there would lead the content elsewhere
        with temporary.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def publish(partial: Path, out: Path, taken: set[Path], images: Iterable[Path]) -> tuple[Path, ...]:
    """Move what was written for one image from ``partial`` to its final place, file by file.

    Args:
        partial: the temporary folder.
        out: the folder for masks.
        taken: the final places of this run's masks; the new ones are added.
        images: the run's images, which no mask may replace.

    Returns:
        the final places.

    Raises:
        FileExistsError: when the place is taken by another image's mask of this run, or by an image.
        FileNotFoundError: when nothing was written.
    """
    files = sorted(p for p in partial.rglob("*") if p.is_file() and not p.is_symlink())
    if not files:
        raise FileNotFoundError("the bundle's postprocessing wrote no mask into the folder that it was given")
    targets = [out / file.relative_to(partial) for file in files]
    for target in targets:
        if target in taken:
            raise FileExistsError(f"{target.name} is another image's of this run; give images of one name folders of their own")
        if target.exists() and any(image.exists() and image.samefile(target) for image in images):
            raise FileExistsError(f"{target.name} is an image itself, which the mask would replace; give another --out")
    for file, target in zip(files, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(file, target)
    taken.update(targets)
    return tuple(targets)


def older_masks(out: Path, name: str, names: Iterable[str], written: Iterable[Path]) -> list[Path]:
    """Masks of an image that an earlier run left in ``out``: this run failed for the image, and they pass for its own.

    Args:
        out: the folder for masks.
        name: of the image.
        names: of all images of the run. What begins like a longer one of them is not this image's.
        written: the masks of this run.
    """
    others = [other for other in names if other.startswith(f"{name}_") and other != name]
    found = [path for path in out.glob(f"{glob.escape(name)}_*") if not path.name.startswith(tuple(f"{o}_" for o in others))]
    found += (out / name).rglob("*") if (out / name).is_dir() else []
    return sorted({path for path in found if path.is_file()} - set(written))


def clear(folder: Path, keep: Path | None = None) -> None:
    """Empty a folder. What a failed image left there would pass for the next image's.

    Args:
        folder: the folder.
        keep: what stays in it; None for nothing.
    """
    for path in folder.iterdir():
        if path == keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full or read-only disk is behind an error. MONAI passes a writer's error on as text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if "suitable writer" in str(error) and any(f"[Errno {number}]" in str(error) for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
