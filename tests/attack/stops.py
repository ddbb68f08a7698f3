"""Runs that are killed, interrupted or short of memory, and then resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from monai_tta.pipeline.run_log import NAME
from tests.attack import arena, promises, starved
from tests.attack.arena import Attack, command, finish, good_images, launch, save, small_bundle, volume

IMAGES = 6
STRUCK: list = []  # how many masks were done when runs were stopped; None where a run had finished, or not begun


def stopped(stop, codes, number=0, **named):
    """An attack that stops a run by ``stop`` and resumes it.

    Attacks of one kind differ by their ``number``, from which the moment is drawn. Without ``codes``, only what the stopped run
    left is checked, and not how it ended.
    """
    return lambda seed, folder: Attack(codes=codes, play=lambda: _play(stop, codes, 100 * seed + number, folder, **named))


def scene(seed, folder, size=(26, 24, 22)):
    """Images, one of them bad, and the command without --out."""
    rng = np.random.default_rng(seed)
    inside = good_images(folder, rng, 0)
    for number in range(IMAGES):
        save(inside / f"scan{number}.nii.gz", volume(rng, size))
    (inside / "scan2.nii.gz").write_bytes(b"damaged")
    words = command(folder, rng, inside, bundle=small_bundle(folder / "bundle"))
    return rng, words


def to(words, out):
    """The same command with another --out."""
    words = list(words)
    words[words.index("--out") + 1] = out
    return words


def masks(out):
    """Name and voxels of each mask."""
    return {p.name: np.asarray(nib.load(p).dataobj) for p in sorted(out.glob("*.nii.gz"))}


def figures(out):
    """Records without what differs from run to run."""
    records = json.loads((out / "records.json").read_text(encoding="utf-8"))["cases"]
    return [{k: v for k, v in r.items() if k not in ("seconds", "seconds_unadapted", "peak_memory")} for r in records]


def noted(out):
    """How many images are done, by the log of an unfinished run."""
    path = out / NAME
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return sum('"done"' in line for line in lines)


def _play(stop, codes, seed, folder, again=1, unadapted=False):
    rng, words = scene(seed, folder)
    before = promises.fingerprints(folder)
    reference = folder / "out" / "reference"
    began = time.monotonic()
    first = finish(launch(to(words, reference), folder / "said"), folder / "said")
    whole = time.monotonic() - began
    out, found = folder / "out" / "stopped", []
    if first.code != 3:
        return [f"the undisturbed run ended with {first.code}: {first.said[-300:]}"]
    for _ in range(again):
        result = stop(to(words, out), folder, rng, whole)
        found += promises.half_masks(out) + (told(result, codes, out) if codes else [])
    return (
        found
        + resumed(words, out, reference, folder, result.code, unadapted_masks(words, folder) if unadapted else None)
        + ([] if promises.fingerprints(folder) == before else ["an input was changed"])
    )


def told(result, codes, out):
    """What is wrong with how a stopped run ended and what it printed."""
    found = []
    if result.code not in (*codes, 3):
        found.append(f"stopped, it ended with {result.code}: {result.said[-500:]}")
    if "Traceback" in result.said:
        found.append(f"a traceback was shown: {result.said[-1500:]}")
    if result.code >= 0:
        found += promises.left_behind(out, unfinished=True)
    if result.code == 130 and result.said.count("interrupted") != 1 and result.said:  # silent before anything had begun
        found.append(f"not one line: {result.said[-300:]}")
    return found


def unadapted_masks(words, folder):
    """The masks without any adaptation."""
    out = folder / "out" / "unadapted"
    words = to(words, out)
    words[words.index("--method") + 1] = "source"
    finish(launch(words, folder / "said"), folder / "said")
    return masks(out)


def differing(out, reference, unadapted):
    """What differs from an undisturbed run and should not.

    Where memory was short, ``unadapted`` holds the masks without adaptation. Adapting may then fail: the record says so and the
    mask is the unadapted one. With half the windows at a time, losses are summed in another order.
    """
    ours, theirs, expected = figures(out), figures(reference), masks(reference)
    for number, (mine, usual) in enumerate(zip(ours, theirs, strict=True)):
        if unadapted is None or "failed" in (mine["status"], usual["status"]):
            continue
        if (mine["reason"] or "").startswith("adapting failed with"):
            ours[number], name = usual, f"scan{number}_seg.nii.gz"
            expected[name] = unadapted[name]
        else:
            mine["steps"] = usual["steps"]
    found = [] if ours == theirs else ["records are others than those of an undisturbed run"]
    made = masks(out)
    if made.keys() != expected.keys() or not all(np.array_equal(made[name], expected[name]) for name in expected):
        found.append("masks are others than those of an undisturbed run")
    return found


def resumed(words, out, reference, folder, code=-9, unadapted=None):
    """What is wrong with how a run resumes."""
    found = []
    STRUCK.append(noted(out) if (out / NAME).exists() else None)
    count, made = noted(out), {p.name: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")} if out.exists() else {}
    done = finish(launch(to(words, out), folder / "said"), folder / "said")
    if done.code != 3 or "Traceback" in done.said:
        return [f"resuming ended with {done.code}: {done.said[-800:]}"]
    if count and f"({count} of them before" not in done.said:
        found.append(f"{count} were done before, but: {done.said[-300:]}")
    kept = sum(made.get(p.name) == p.stat().st_mtime_ns for p in out.glob("*.nii.gz"))
    if code != 3 and kept < count:
        found.append(f"{count - kept} done twice")
    found += differing(out, reference, unadapted)
    if done.source_same is False:
        found.append("the source network was changed")
    return found + promises.left_behind(out)


def by(*signals, pause=0.02):
    """Send signals at a random moment: anywhere in the run, or shortly after some mask was written."""

    def stop(words, folder, rng, whole):
        child = launch(words, folder / "said")
        masks_first, out = int(rng.integers(0, IMAGES - 1)), Path(words[words.index("--out") + 1])
        if masks_first == 0:
            time.sleep(float(rng.uniform(0.02, 1)) * whole)
        else:
            while noted(out) < masks_first and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.001)
            time.sleep(float(rng.uniform(0, 0.02)))
        for number in signals:
            os.kill(child, number)
            time.sleep(pause)
        return finish(child, folder / "said")

    return stop


def own_process(number):
    """A signal to `python -m monai_tta`, started as a person would, when the first mask is there."""

    def stop(words, folder, rng, whole):
        with open(folder / "said", "wb") as file:
            # One thread, as the others have: with two, torch's convolutions differ in the last bit.
            where = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
            child = subprocess.Popen([sys.executable, "-m", "monai_tta", *map(str, words)], stdout=file, stderr=file, env=where)
            out = Path(words[words.index("--out") + 1])
            for _ in range(3000):
                if noted(out) or child.poll() is not None:
                    break
                time.sleep(0.01)
            time.sleep(float(rng.uniform(0, 0.05)))
            child.send_signal(number)
            code = child.wait()
        said = (folder / "said").read_bytes().decode("utf-8", "replace")
        return arena.Result(3 if "masks and records.json in" in said else code, said, 0.0)  # it may have come to its end

    return stop


def killer(words, folder, rng, whole):
    """An image that ends the process whenever it is read."""

    def before():
        from monai_tta.pipeline import load_image as module

        real = module.check_input_file

        def deadly(path):
            if path.name == "scan1.nii.gz":
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
            real(path)

        module.check_input_file = deadly

    return finish(launch(words, folder / "said", before=before), folder / "said")


FAMILY = {
    **{f"kill -9, moment {n}": stopped(by(signal.SIGKILL), (-9,), n) for n in range(1, 11)},
    **{f"kill -9 three times, {n}": stopped(by(signal.SIGKILL), (-9,), 20 + n, again=3) for n in range(1, 4)},
    **{f"Ctrl-C, moment {n}": stopped(by(signal.SIGINT), (130,), 40 + n) for n in range(1, 7)},
    "Ctrl-C twice": stopped(by(signal.SIGINT, signal.SIGINT), (130,)),
    "Ctrl-C twice, at once": stopped(by(signal.SIGINT, signal.SIGINT, pause=0), (130,)),
    "Ctrl-C three times": stopped(by(signal.SIGINT, signal.SIGINT, signal.SIGINT), (130,)),
    "terminated": stopped(by(signal.SIGTERM), (-15,)),
    "hung up": stopped(by(signal.SIGHUP), (-1,)),
    "kill -9 of its own process": stopped(own_process(signal.SIGKILL), (-9,)),
    "Ctrl-C of its own process": stopped(own_process(signal.SIGINT), (130,)),
    **{f"short of memory, {n}": stopped(starved.short, (), 60 + n, unadapted=True) for n in range(1, 7)},
    **{f"memory that fails here and there, {n}": stopped(starved.failing, (-9,), 80 + n, unadapted=True) for n in range(1, 4)},
    "an image that ends the process": stopped(killer, (-9,), again=3),
}
