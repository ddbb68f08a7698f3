"""Run attacks, each in a process of its own, forked from one that has imported everything and computed nothing."""

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from typer.testing import CliRunner  # noqa: F401  imported here, once, for all forks

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline import bundle as bundles
from tests.small import same, state

torch.set_num_threads(1)  # a process that is forked after torch has used threads hangs in its first operation

GIB = 2**30
LIMIT_S = 120
SMALL = (
    ("channels: [16, 32, 64, 128]", "channels: [4, 8]"),
    ("strides: [2, 2, 2]", "strides: [2]"),
    ("[32, 32, 32]", "[8, 8, 8]"),
)
PHOTOGRAPHS = (
    ("[16, 24, 48, 96, 128]", "[4, 8]"),
    ("[1, 2, 2, 2]", "[2]"),
    ("[256, 256]", "[32, 32]"),
    ("num_res_units: 2", "num_res_units: 0"),
)


@dataclass
class Attack:
    """What to run and what to expect.

    Args:
        words: the arguments of `monai-tta`.
        images: how many images must be accounted for; None where the command is refused.
        bad: how many of them fail; None for any number that is consistent.
        says: a pattern that the output matches.
        codes: the exit codes that are allowed.
        memory: limit of the process in bytes.
        before: called in the process first.
        call: run instead of the command; it may raise nothing.
        play: run in this process instead of everything else; returns the broken promises.
    """

    words: list = field(default_factory=list)
    images: int | None = None
    bad: int | None = None
    says: str = ""
    codes: tuple = (0, 3)
    memory: int = 12 * GIB
    before: Callable | None = None
    call: Callable | None = None
    play: Callable | None = None


@dataclass
class Result:
    """How a process ended. ``source_same``: whether the source network is as it was; None where it was never loaded."""

    code: int
    said: str
    seconds: float
    source_same: bool | None = None


def launch(words, note, *, memory=None, before=None, call=None):
    """Start `monai-tta WORDS` in a forked process and return its id. All output goes to the file ``note``."""
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        with open(note, "wb") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = _run(words, note, before, call)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _run(words, note, before, call):
    kept = []
    load = bundles.load_bundle

    def loading(*args, **named):
        source = load(*args, **named)
        kept.append((source.network, state(source.network)))
        return source

    bundles.load_bundle = loading
    if before:
        before()
    code = 0
    try:
        if call:
            call()
        else:
            app(list(map(str, words)), prog_name="monai-tta")
    except SystemExit as end:
        code = end.code or 0
    for network, was in kept:
        Path(f"{note}.source").write_text("same" if same(was, state(network)) else "changed", encoding="utf-8")
    return code


def finish(child, note, began=None, limit=LIMIT_S):
    """Wait for a launched process and return its result. A code below 0 is the signal that ended it."""
    began = began or time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Result(-99, "did not end", time.monotonic() - began)
        time.sleep(0.005)
    source = Path(f"{note}.source")
    is_same = source.read_text(encoding="utf-8") == "same" if source.exists() else None
    source.unlink(missing_ok=True)
    said = Path(note).read_bytes().decode("utf-8", "replace")
    return Result(os.waitstatus_to_exitcode(status), said, time.monotonic() - began, is_same)


def run(attack, note):
    """Launch an attack and wait for its result."""
    began = time.monotonic()
    return finish(launch(attack.words, note, memory=attack.memory, before=attack.before, call=attack.call), note, began)


def small_bundle(root, name="hippocampus_mri", changes=SMALL, seed=0):
    """A bundle with a shipped one's transforms and a small network of seeded weights."""
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    text = (BUNDLE.parent / name / "configs" / "inference.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (root / "configs" / "inference.yaml").write_text(text, encoding="utf-8")
    weights = weights_of(name, changes, root, seed)
    torch.save(weights, root / "models" / "model.pt")
    return root


_MADE: dict = {}


def weights_of(name, changes, root, seed):
    """A state dict for that network, made once."""
    if name not in _MADE:
        _MADE[name] = bundles.load_bundle(root, None).network.state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        k: v + 0.1 * torch.randn(v.shape, generator=generator) if v.is_floating_point() else v for k, v in _MADE[name].items()
    }


def volume(rng, shape=(12, 11, 10)):
    """A bright block in noise."""
    data = rng.normal(0, 0.3, shape)
    data[tuple(slice(n // 4, 3 * n // 4) for n in shape)] += 1
    return data.astype(np.float32)


def save(path, data, affine=None):
    """Write a volume as NIfTI."""
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def good_images(folder, rng, count=2):
    """``folder/in`` with good images, whose names stand before and after that of a bad one."""
    inside = folder / "in"
    inside.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        save(inside / f"{'am'[number % 2]}{number}.nii.gz", volume(rng))
    return inside


def command(folder, rng, *images, bundle=None, more=()):
    """The words of `monai-tta run` with one of four methods."""
    method = ("source", "statistics", "tent", "grata")[int(rng.integers(4))]
    root = bundle or small_bundle(folder / "bundle")
    return ["run", root, *images, "--out", folder / "out", "--method", method, *more]
