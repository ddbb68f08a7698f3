"""The folder that masks go to: one run at a time in it, every file aside first and then in one move, no remains."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial-monai_tta-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_UNLOCKABLE = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


class DiskFull(OSError):
    """The disk that masks go to is full or read-only: the fault of no image, and that of every further one."""


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A new folder inside ``out`` for what is being written; gone at the end, like those that killed runs left.

    Raises:
        BlockingIOError: when another run, of whatever process, is writing into ``out``.
        OSError: when ``out`` can't be made or written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out) as alone:
        for remains in out.glob(f"{PARTIAL}*") if alone else ():
            if remains.is_dir() and not remains.is_symlink():
                shutil.rmtree(remains, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=PARTIAL) as partial:
            yield Path(partial)


@contextmanager
def _alone(out: Path) -> Iterator[bool]:
    """Hold the folder's lock, which the system takes back however a process ends; False where folders can't be locked."""
    if fcntl is None:
        yield False
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        held = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"another run is writing into {out}: wait for it, or give another folder") from error
        except OSError as error:
            if error.errno not in _UNLOCKABLE:
                raise
            held = False
        yield held
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file aside first, then in one move; on failure nothing is left of it."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        aside.unlink(missing_ok=True)  # a link there would lead the text elsewhere
        with aside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def publish(partial: Path, out: Path, taken: set[Path], images: Iterable[Path]) -> tuple[Path, ...]:
    """Move what was written to its final place, file by file; not over another image's mask, nor over an image.

    Raises:
        FileExistsError: when something of that name is another image's of this run, or is an image itself.
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


def clear(folder: Path) -> None:
    """Remove what is in a folder, of a failed image, lest the next one's name is given to it."""
    for rest in folder.iterdir():
        shutil.rmtree(rest) if rest.is_dir() and not rest.is_symlink() else rest.unlink()


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full or read-only disk is at the bottom of it; MONAI hands a writer's error on as text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if "suitable writer" in str(error) and any(f"[Errno {number}]" in str(error) for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
