"""The folder for masks: one run at a time writes into it, and every file comes there whole, in one move."""

from __future__ import annotations

import errno
import glob
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
    """The disk for masks is full or read-only. No image is to blame, and every further one would fail, too."""


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A new folder inside ``out`` for what is being written. It is removed at the end, and so are those that killed runs left.

    Raises:
        BlockingIOError: when another run, of any process, is writing into ``out``.
        OSError: when ``out`` cannot be made or written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out) as is_locked:
        for left_behind in out.glob(f"{PARTIAL}*") if is_locked else ():
            if left_behind.is_dir() and not left_behind.is_symlink():
                shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=PARTIAL) as partial:
            yield Path(partial)


@contextmanager
def _locked(out: Path) -> Iterator[bool]:
    """Hold the folder's lock; False where folders cannot be locked. The system releases it, however a process ends."""
    if fcntl is None:
        yield False
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        is_held = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"another run is writing into {out}: wait for it, or give another folder") from error
        except OSError as error:
            if error.errno not in _UNLOCKABLE:
                raise
            is_held = False
        yield is_held
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Write a text to a temporary file, then move it to its place. After a failure nothing is left of it."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.unlink(missing_ok=True)  # a link there would lead the text elsewhere
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
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


def clear(folder: Path) -> None:
    """Empty a folder. What a failed image left there would pass for the next image's."""
    for path in folder.iterdir():
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
