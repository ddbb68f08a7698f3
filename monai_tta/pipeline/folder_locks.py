"""Locks on an output folder: one process per share of a run, and one at a time where shares are put together.

A lock is a hidden file that is locked. The system releases it, however a process ends, on a local disk and on a shared file
system whose locks work (NFS, Lustre with flock).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monai_tta.pipeline.shards import Shard

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

FOLDER_LOCK = ".monai_tta_run.folder.lock"
_UNLOCKABLE = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
_SHARD_LOCK = re.compile(r"\.monai_tta_run\.(?:(\d+)-of-(\d+)\.)?lock")


def shard_lock(out: Path, shard: Shard) -> Path:
    """The file that is locked by the process that works on a share."""
    return out / ".".join([".monai_tta_run", *filter(None, [shard.in_file_names]), "lock"])


@contextmanager
def hold(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock, whose file is made and, at the end, removed.

    Args:
        path: the file.
        wait: whether to wait for whoever holds it.

    Yields:
        whether there is a lock: False where the file system has none.

    Raises:
        BlockingIOError: when another process holds it and nobody waits.
        OSError: when the file cannot be made.
    """
    if fcntl is None:
        yield False
        return
    handle = _locked(path, wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()  # while it is held: whoever waits for this file sees that it is gone, and makes a new one
            os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process, of any machine, holds a lock. A file that nobody holds is what a killed process left; it is removed."""
    if not path.exists():
        return False
    try:
        with hold(path, wait=False):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def other_counts_at_work(out: Path, shard: Shard) -> list[Shard]:
    """Shares of another count than this one that some process works on right now."""
    found = []
    for path in sorted(out.glob(".monai_tta_run*lock")):
        named = _SHARD_LOCK.fullmatch(path.name)
        if named is None:
            continue
        other = Shard(int(named[1] or 1), int(named[2] or 1))
        if other.count != shard.count and is_held(path):
            found.append(other)
    return found


def _locked(path: Path, wait: bool) -> int | None:
    """A handle that holds the lock; None where there is no such thing."""
    while True:
        if path.is_symlink():
            path.unlink()  # it would lead elsewhere
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # NFS locks only what can be written
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_still(handle, path):
                return handle
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError) or error.errno not in _UNLOCKABLE:
                raise
            with suppress(OSError):
                path.unlink()
            return None
        except BaseException:  # Ctrl-C while it waits
            os.close(handle)
            raise
        os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    """Whether the file that is locked is the one at this path, and not one that its holder removed."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
