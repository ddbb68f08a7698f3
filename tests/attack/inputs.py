"""Images that are handed over wrongly to a bundle that knows its home, and references that are damaged."""

import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from monai_tta.pipeline.bundle import load_bundle
from monai_tta.preparation.measure_inputs import input_reference, measure_inputs
from tests.attack.arena import Attack, save, small_bundle, volume

_HOME: dict = {}


def _reference():
    """The figures of six good images, measured once."""
    if not _HOME:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bundle = small_bundle(folder / "bundle")
            images = [save(folder / f"{k}.nii.gz", _scan(np.random.default_rng(k))) for k in range(6)]
            reference, _ = input_reference(list(measure_inputs(load_bundle(bundle), images)))
            _HOME.update(reference.to_dict())
    return dict(_HOME)


def _scan(rng):
    data = volume(rng, (14, 13, 12)) * 2
    data[1:4, 2:9, 3:6] += 5
    return data


def wrong(make, says="", bad=0, more=("--fix",), codes=(0, 3)):
    """A good image, and one that ``make(path, rng)`` writes; --fix corrects what it can."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        (folder / "in").mkdir()
        save(folder / "in" / "good.nii.gz", _scan(rng))
        make(folder / "in" / "odd.nii.gz", rng)
        return _run(folder, json.dumps({"inputs": _reference()}), Attack(images=2, bad=bad, says=says, codes=codes), more)

    return attack


def damaged(text, says="", more=(), codes=(2,)):
    """A good image and a reference of this text, or of what a function makes of the good one."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        (folder / "in").mkdir()
        save(folder / "in" / "good.nii.gz", _scan(rng))
        written = text if isinstance(text, str) else json.dumps({"inputs": text(_reference())})
        expected = Attack(images=1 if 0 in codes else None, bad=0, says=says, codes=codes)
        return _run(folder, written, expected, more)

    return attack


def _run(folder, reference, attack, more):
    bundle = small_bundle(folder / "bundle")
    (bundle / "models" / "reference.json").write_text(reference, encoding="utf-8")
    attack.words = ["run", bundle, folder / "in", "--out", folder / "out", "--method", "source", *more]
    return attack


def _image(change):
    return lambda path, rng: save(path, np.ascontiguousarray(change(_scan(rng), rng)))


def _affine(scale):
    return lambda path, rng: save(path, _scan(rng), np.diag([scale, scale, scale, 1]))


def _with_hole(data, rng):
    data[tuple(rng.integers(0, 11, 3))] = np.nan
    return data


def _colours(path, rng):
    """Colours in a volume's header: an image of four axes where three are expected."""
    nib.save(nib.Nifti1Image(np.repeat(_scan(rng)[..., None], 3, 3), np.eye(4)), path)


def _no_reference(seed, folder):
    (folder / "in").mkdir()
    save(folder / "in" / "good.nii.gz", _scan(np.random.default_rng(seed)))
    words = ["run", small_bundle(folder / "bundle"), folder / "in", "--out", folder / "out", "--method", "source", "--fix"]
    return Attack(words, codes=(2,), says="--fix cannot check inputs")


def _folder_for_reference(seed, folder):
    made = damaged("{}")(seed, folder)
    file = folder / "bundle" / "models" / "reference.json"
    file.unlink()
    file.mkdir()
    made.words += ["--reference", file]
    made.says = "no reference in"
    return made


FAMILY = {
    "mirrored": wrong(_image(lambda x, rng: np.flip(x, int(rng.integers(3))))),
    "permuted": wrong(_image(lambda x, rng: np.transpose(x, [(1, 0, 2), (2, 1, 0), (1, 2, 0)][int(rng.integers(3))]))),
    "inverted": wrong(_image(lambda x, rng: x.min() + x.max() - x), says="grey inverted.*corrected, and the mask is turned back"),
    "inverted, not to be corrected": wrong(_image(lambda x, rng: -x), says="grey inverted.*not corrected", more=()),
    "padded": wrong(_image(lambda x, rng: np.pad(x, int(rng.integers(4, 9)))), says="border cut away.*mask is turned back"),
    "a mask for an image": wrong(_image(lambda x, rng: (x > 1).astype(np.float32)), says="2 distinct values"),
    "one value": wrong(_image(lambda x, rng: np.full_like(x, rng.integers(99))), None, codes=(0, 3)),
    "a hole": wrong(_image(_with_hole), bad=None),
    "one voxel": wrong(_image(lambda x, rng: x[:1, :1, :1]), bad=None),
    "one slice": wrong(_image(lambda x, rng: x[:, :, :1]), bad=None),
    "spacing in cm": wrong(_affine(0.1), says="cm were taken for mm.*mask is turned back"),
    "spacing ten times as large": wrong(_affine(10.0), bad=None, says="mm were taken for cm"),
    "spacing a hundred times as large": wrong(_affine(100.0), bad=None),
    "spacing next to nothing": wrong(_affine(1e-3), bad=None),
    "four axes": wrong(_colours, bad=None),
    "no image": wrong(lambda path, rng: path.write_bytes(rng.bytes(500)), bad=1, says="failed: odd.nii.gz"),
    "a reference that is no JSON": damaged("{", "is no reference"),
    "a reference that is a list": damaged("[1, 2]", "holds no JSON object"),
    "a reference of another format": damaged(lambda r: r | {"format": 99}, "format 99"),
    "a reference with NaN": damaged(lambda r: r | {"figures": r["figures"] | {"size": [float("nan"), 1]}}, "not finite"),
    "a reference without spread": damaged(lambda r: r | {"figures": r["figures"] | {"size": [0, 0]}}, "without spread"),
    "a reference without a scale": damaged(lambda r: r | {"scale": None}, "monai-tta reference"),
    "a reference that lacks figures": damaged(lambda r: r | {"figures": {"grey 3 0.5": [0, 1]}}, "without the figures entropy"),
    "a reference of another task": damaged(
        lambda r: r | {"figures": r["figures"] | {"grey 3 0.5": [0, 1], "centre 7": [0, 1]}}, "unlike the source", codes=(0,)
    ),
    "a reference that no image is like": damaged(lambda r: r | {"limit": 1e-6}, codes=(0,)),
    "a reference with a limit below zero": damaged(lambda r: r | {"limit": -1.0}, "a limit of -1"),
    "a reference without figures of inputs": damaged("{}", "inputs are not checked", codes=(0,)),
    "to be corrected without a reference": _no_reference,
    "a folder for a reference": _folder_for_reference,
}
