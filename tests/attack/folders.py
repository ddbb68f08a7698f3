"""Output folders that cannot be written to, or must not be."""

import errno
import os

import numpy as np

from monai_tta.pipeline.output_folder import PARTIAL
from tests.attack.arena import Attack, command, good_images, save, volume


def out(make, says="", codes=(2,), images=None, bad=None, before=None):
    """``make(folder, rng)`` prepares an output folder and returns its path; None for ``folder/out``."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        words = command(folder, rng, inside)
        words[words.index("--out") + 1] = make(folder, rng) or folder / "out"
        return Attack(words, images=images, bad=bad, says=says, codes=codes, before=before and (lambda: before(seed)))

    return attack


def _file(folder, rng):
    (folder / "out").write_text("a file", encoding="utf-8")


def _records_folder(folder, rng):
    (folder / "out" / "records.json").mkdir(parents=True)


def _mask_folder(folder, rng):
    (folder / "out" / "a0_seg.nii.gz").mkdir(parents=True)


def _left_behind(folder, rng):
    (folder / "out" / f"{PARTIAL}dead").mkdir(parents=True)
    (folder / "out" / f"{PARTIAL}dead" / "half.nii.gz").write_bytes(b"x")


def _run_log(text):
    def make(folder, rng):
        (folder / "out").mkdir()
        (folder / "out" / ".monai_tta_run.jsonl").write_bytes(text)

    return make


def _mask_linked(folder, rng):
    (folder / "out").mkdir()
    (folder / "out" / "a0_seg.nii.gz").symlink_to(folder / "in" / "a0.nii.gz")


def _temporary_linked(folder, rng):
    (folder / "out").mkdir()
    for name in ("records.json", ".records.json.partial", ".monai_tta_run.jsonl", "..monai_tta_run.jsonl.partial"):
        if name != ".monai_tta_run.jsonl":
            (folder / "out" / name).symlink_to(folder / "in" / "a0.nii.gz")


def _same_name(folder, rng):
    """A mask that would be called like an image, by a bundle without a postfix."""
    config = folder / "bundle" / "configs" / "inference.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("output_postfix: seg", 'output_postfix: ""'), encoding="utf-8")
    (folder / "out").mkdir()
    (folder / "in" / "a0.nii.gz").rename(folder / "in" / "b.tmp")
    os.link(folder / "in" / "b.tmp", folder / "in" / "a0.nii.gz")
    os.link(folder / "in" / "b.tmp", folder / "out" / "a0.nii.gz")


def refusing_writes(number, every):
    """Let writing into --out fail with this error from some moment on, as when a disk fills or is taken away.

    Functions that open for writing and rename are replaced in the attacked process. Its own output still works.
    """

    def before(seed):
        import builtins
        import io

        left = [int(np.random.default_rng(seed).integers(0, 12)) if every is None else every]
        real_open, real_replace = io.open, os.replace

        def full(path):
            if "/out" in str(path):
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(number, os.strerror(number), str(path))

        def opening(file, mode="r", *args, **named):
            if any(c in mode for c in "wax+"):
                full(file)
            return real_open(file, mode, *args, **named)

        def replacing(old, new, **named):
            full(new)
            return real_replace(old, new, **named)

        builtins.open = io.open = opening
        os.replace = replacing

    return before


def limited(seed):
    """Limit the size of any file."""
    import resource

    size = int(np.random.default_rng(seed).integers(0, 400))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _big(folder, rng):
    for file in (folder / "in").iterdir():
        save(file, volume(rng, (40, 36, 34)))


ROOM = "no room to write|No space|Read-only|quota"
FAMILY = {
    "a file in its place": out(_file, "is a file"),
    "below a file": out(
        lambda d, rng: (d / "f").write_text("", encoding="utf-8") and None or d / "f" / "out",
        "Not a directory|File exists|is a file",
    ),
    "many missing parents": out(lambda d, rng: d / "out" / "b" / "c" / "d", codes=(0,), images=2, bad=0),
    "where images are read from": out(lambda d, rng: d / "in", "where images are read from"),
    "the same by another way": out(lambda d, rng: d / "in" / ".." / "in", "where images are read from"),
    "the same by a link": out(lambda d, rng: (d / "out").symlink_to("in"), "where images are read from"),
    "a link to nothing": out(lambda d, rng: (d / "out").symlink_to("nowhere/x"), ""),
    "records.json is a folder": out(_records_folder, "records.json"),
    "a mask's name is a folder": out(_mask_folder, "failed: a0", (3,), 2, 1),
    "a mask's name is a link to an image": out(_mask_linked, "an image itself", (3,), 2, 1),
    "a mask is called like its image": out(_same_name, "an image itself", (3,), 2, 1),
    "links at the names of temporary files": out(_temporary_linked, "", (0,), 2, 0),
    "what a killed run left": out(_left_behind, "", (0,), 2, 0),
    "run log of noise": out(_run_log(b"\xff\x00noise\n"), "damaged"),
    "run log of a list": out(_run_log(b"[1, 2]\n[3]\n"), "damaged"),
    "run log torn": out(_run_log(b'{"settings": {"met'), "", (0,), 2, 0),
    "run log of another run": out(
        _run_log(b'{"settings": {}}\n{"done": "x", "masks": [], "case": {}}\n'), "unfinished run with another"
    ),
    "run log with odd lines": out(_run_log(b'{"settings": {}}\n{"begun": [1]}\n{"begun": 7}\n'), "", (0, 2), 2, 0),
    "a proc folder": out(lambda d, rng: "/proc/self/out", ""),
    "/dev/null": out(lambda d, rng: "/dev/null", "is a file"),
    "/dev/full": out(lambda d, rng: "/dev/full", "is a file"),
    "a full disk, at once": out(lambda d, rng: None, ROOM, before=refusing_writes(errno.ENOSPC, 0)),
    "a full disk, after a while": out(lambda d, rng: None, "", (0, 2), 2, before=refusing_writes(errno.ENOSPC, None)),
    "a quota, after a while": out(lambda d, rng: None, "", (0, 2), 2, before=refusing_writes(errno.EDQUOT, None)),
    "a read-only disk": out(lambda d, rng: None, ROOM, before=refusing_writes(errno.EROFS, 0)),
    "a disk that turns read-only": out(lambda d, rng: None, "", (0, 2), 2, before=refusing_writes(errno.EROFS, None)),
    "errors of the disk": out(lambda d, rng: None, "", (0, 2, 3), 2, before=refusing_writes(errno.EIO, None)),
    "no permission": out(lambda d, rng: None, "", (0, 2, 3), 2, before=refusing_writes(errno.EACCES, None)),
    "files of a few bytes at most": out(_big, "", (0, 2, 3), 2, before=limited),
}
