"""Changes between a stopped run and the next one, two runs at once, and runs whose output goes nowhere."""

import gzip
import os
import signal
import sys
import time

from monai_tta.pipeline.run_log import NAME
from tests.attack import promises
from tests.attack.arena import Attack, finish, launch, save, volume
from tests.attack.stops import IMAGES, figures, masks, noted, scene


def between(change, says, code=2):
    """A run is killed, ``change(folder, rng)`` changes something, and the next run says so and ends with ``code``."""

    def attack(seed, folder):
        return Attack(play=lambda: _between(seed, folder, change, says, code))

    return attack


def _between(seed, folder, change, says, code):
    rng, words = scene(seed, folder)
    out = folder / "out"
    child = launch(words, folder / "said")
    while noted(out) < 2 and os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    finish(child, folder / "said")
    more = change(folder, rng) or []
    result = finish(launch([*words, *more], folder / "said"), folder / "said")
    found = [] if result.code == code else [f"ended with {result.code}, not {code}: {result.said[-500:]}"]
    if says not in " ".join(result.said.split()) or "Traceback" in result.said:
        found.append(f"does not say {says!r}: {result.said[-500:]}")
    return found + promises.half_masks(out) + promises.left_behind(out, unfinished=code == 2)


def _redone(folder, rng):
    save(folder / "in" / "scan0.nii.gz", volume(rng))


def _changed_within(folder, rng):
    """One bit in the middle of the first image, which keeps its time."""
    path = folder / "in" / "scan0.nii.gz"
    was = path.stat()
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[len(data) // 2] ^= 0x40
    path.write_bytes(gzip.compress(bytes(data)))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def _lost(folder, rng):
    (folder / "out" / "scan0_seg.nii.gz").unlink()


def _new_weights(folder, rng):
    import torch

    path = folder / "bundle" / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({k: v * 1.01 if v.is_floating_point() else v for k, v in weights.items()}, path)


def _torn(folder, rng):
    path = folder / "out" / NAME
    path.write_bytes(path.read_bytes()[:-3])


def two_at_once(seed, folder):
    """The second of two runs into one folder is refused, the first ends well."""

    def play():
        rng, words = scene(seed, folder, (36, 34, 32))
        child = launch(words, folder / "said")
        while not list((folder / "out").glob(".partial*")):
            time.sleep(0.002)
        second = finish(launch(words, folder / "said2"), folder / "said2")
        first = finish(child, folder / "said")
        found = [] if first.code == 3 else [f"the first ended with {first.code}: {first.said[-400:]}"]
        if second.code != 2 or "another run is writing" not in " ".join(second.said.split()):
            found.append(f"the second: {second.code}, {second.said[-400:]}")
        return found + promises.left_behind(folder / "out") + promises.half_masks(folder / "out")

    return Attack(play=play)


def without_output(close):
    """Nothing can be printed. Masks and records are the same."""

    def attack(seed, folder):
        def play():
            _, words = scene(seed, folder)
            result = finish(launch(words, folder / "said", before=close), folder / "said")
            found = [] if result.code == 3 else [f"ended with {result.code}"]
            if (
                sum(r["status"] != "failed" for r in figures(folder / "out")) != IMAGES - 1
                or len(masks(folder / "out")) != IMAGES - 1
            ):
                found.append("records or masks are missing")
            return found + promises.left_behind(folder / "out")

        return Attack(play=play)

    return attack


def _to_full_disk():
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def _to_no_reader():
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 2)


FAMILY = {
    "two runs at once": two_at_once,
    "standard error on a full disk": without_output(_to_full_disk),
    "standard error into a pipe that nobody reads": without_output(_to_no_reader),
    "standard error closed": without_output(lambda: os.close(2)),
    "standard error gone": without_output(lambda: setattr(sys, "stderr", None)),
    "resuming with another method": between(lambda d, rng: ["--method", "viewaverage"], "unfinished run with another method"),
    "resuming with another seed": between(lambda d, rng: ["--seed", "5"], "unfinished run with another seed"),
    "resuming with other weights": between(_new_weights, "unfinished run with another weights"),
    "restarting": between(lambda d, rng: ["--seed", "5", "--restart"], "5 of 6 segmented; masks", 3),
    "an image changed in between": between(_redone, "5 of 6 segmented (", 3),
    "an image changed within": between(_changed_within, "5 of 6 segmented (", 3),
    "a mask lost in between": between(_lost, "5 of 6 segmented (", 3),
    "the run log torn": between(_torn, "5 of 6 segmented (", 3),
}
