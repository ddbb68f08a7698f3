"""Records: names that must not be there, labels that cannot be named or counted, and messages that hold paths."""

import csv
import json

import nibabel as nib
import numpy as np

from tests.attack import promises
from tests.attack.arena import Attack, command, finish, good_images, launch, save, small_bundle, volume

OBLIQUE = np.array([[0.6, -0.8, 0, 3], [0.8, 0.6, 0, -7], [0, 0, 1.0, 11], [0, 0, 0, 1]]) @ np.diag([0.7, 1.3, 2.9, 1])
SAVE = "- {_target_: SaveImaged"
ARGMAX = "  - {_target_: AsDiscreted, keys: pred, argmax: true}\n"


def on_record(make, check, images=2, bad=0, more=(), codes=(0, 3)):
    """``make(folder, rng)`` prepares images and bundle; ``check(cases, rows, folder)`` returns what is wrong on record."""

    def attack(seed, folder):
        def play():
            rng = np.random.default_rng(seed)
            inside = good_images(folder, rng)
            small_bundle(folder / "bundle")
            make(folder, rng)
            words = command(folder, rng, inside, bundle=folder / "bundle", more=more)
            before = promises.fingerprints(folder)
            result = finish(launch(words, folder / "said"), folder / "said")
            found = promises.broken(Attack(words, images=images, bad=bad, codes=codes), result, folder, before)
            if result.code == 2 or found:
                return found
            document = json.loads((folder / "out" / "records.json").read_text(encoding="utf-8"))
            with (folder / "out" / "records.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            if len(rows) != len(document["cases"]):
                found.append(f"{len(rows)} rows of {len(document['cases'])} cases")
            return found + check(document["cases"], rows, folder)

        return Attack(play=play, codes=codes)

    return attack


def _renamed(name):
    return lambda folder, rng: (folder / "in" / "a0.nii.gz").rename(folder / "in" / name)


def _damaged(name):
    return lambda folder, rng: (folder / "in" / name).write_bytes(b"damaged")


def _no_formulas(cases, rows, folder):
    cells = [cell for row in rows for cell in (*row, *row.values()) if cell]
    return [f"a formula: {cell!r}" for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def _nameless(*words):
    def check(cases, rows, folder):
        found = promises.private(folder / "out", folder, words)
        return found + ["a name in an anonymous record" for case in cases if "name" in case or "masks" in case]

    return check


def _slices_named_after_a_patient(folder, rng):
    (folder / "in" / "series").mkdir()
    for k in range(3):
        (folder / "in" / "series" / f"DOE_JANE_{k}.dcm").write_bytes(b"\0" * 128 + b"DICM" + rng.bytes(50))


def _metadata(change):
    def make(folder, rng):
        pred = {"channel_def": {"0": "background", "1": "one", "2": "two"}} | change
        document = {"version": "0.1.0", "network_data_format": {"outputs": {"pred": pred}}}
        (folder / "bundle" / "configs" / "metadata.json").write_text(json.dumps(document), encoding="utf-8")

    return make


def _config(*changes):
    def make(folder, rng):
        _metadata({})(folder, rng)
        path = folder / "bundle" / "configs" / "inference.yaml"
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")

    return make


def _step(lines):
    """One more transform before the mask is written."""
    return _config((f"  {SAVE}", f"  {lines}\n  {SAVE}"))


def _names(*expected):
    def check(cases, rows, folder):
        return [f"labels {names}" for case in cases if (names := [label["name"] for label in case["labels"]]) != [*expected]]

    return check


def _noted(word):
    return lambda cases, rows, folder: [f"note {c['labels_note']!r}" for c in cases if word not in (c["labels_note"] or "")]


def _volumes(cases, rows, folder):
    """Every voxel that is no background, times the size of one, by nibabel."""
    found = []
    for case in cases:
        mask = nib.load(folder / "out" / case["masks"][0])
        expected = np.count_nonzero(np.asarray(mask.dataobj)) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
        total = sum(label["ml"] for label in case["labels"])
        if not np.isclose(total, expected, rtol=1e-5, atol=0):
            found.append(f"{total} ml, not {expected}")
    return found


def _oblique(factor):
    def make(folder, rng):
        _metadata({})(folder, rng)
        affine = OBLIQUE @ np.diag([factor, factor, factor, 1])
        save(folder / "in" / "a0.nii.gz", volume(rng, (14, 12, 10)), affine)

    return make


def _no_word_of(*words):
    def check(cases, rows, folder):
        text = json.dumps(cases) + json.dumps(rows)
        return [f"{word!r} is on record" for word in words if word in text]

    return check


def _table_folder(folder, rng):
    (folder / "out" / "records.csv").mkdir(parents=True)


def _table_linked(folder, rng):
    (folder / "out").mkdir()
    (folder / "out" / "records.csv").symlink_to(folder / "in" / "a0.nii.gz")


def _no_check(cases, rows, folder):
    return []


RAISE = "- {_target_: Lambdad, keys: pred, func: \"$lambda p: open('/secret/Doe Jane/ct.nii')\"}"
NUMBERED = '- {_target_: Lambdad, keys: pred, func: "$lambda p: torch.arange(p.numel()).view(p.shape) % 30000"}'
TIMES_FIVE = '- {_target_: Lambdad, keys: pred, func: "$lambda p: p * 0 + 5"}'
ONE_HOT = "  - {_target_: AsDiscreted, keys: pred, argmax: true, to_onehot: 3}\n"
ANONYMOUS = ("--anonymous",)

FAMILY = {
    "a name that a spreadsheet would compute": on_record(_renamed("=1+1.nii.gz"), _no_formulas),
    "a name that a spreadsheet would call a program by": on_record(_renamed("@SUM(1+9)*cmd|' C calc'!A0.nii.gz"), _no_formulas),
    "a name of quotes, commas and a newline": on_record(_renamed('a",\n"b.nii.gz'), _no_formulas),
    "a failed image with a name for the spreadsheet": on_record(_damaged("-2+3.nii.gz"), _no_formulas, 3, 1),
    "anonymous": on_record(_renamed("Doe_Jane.nii.gz"), _nameless("Doe", "Jane"), more=ANONYMOUS),
    "anonymous, and the image fails": on_record(_damaged("Doe Jane 1970.nii.gz"), _nameless("Doe", "Jane"), 3, 1, ANONYMOUS),
    "anonymous, with a name of three letters": on_record(_damaged("Kim.nii.gz"), _nameless("Kim"), 3, 1, ANONYMOUS),
    "slices named after a patient": on_record(_slices_named_after_a_patient, _no_word_of("DOE", "JANE"), 3, 1),
    "an error that holds a path": on_record(_step(RAISE), _no_word_of("secret", "Doe", "Jane"), 2, 2),
    "names of channels are a list": on_record(_metadata({"channel_def": ["a", "b", "c"]}), _noted("does not say")),
    "names of channels are no numbers": on_record(_metadata({"channel_def": {"one": "liver"}}), _noted("does not say")),
    "names of channels are objects": on_record(_metadata({"channel_def": {"0": {}, "1": [1], "2": None}}), _names("[1]", "None")),
    "a channel called like a formula": on_record(_metadata({"channel_def": {"0": "b", "1": "=1", "2": "@x"}}), _no_formulas),
    "two channels of one name": on_record(_metadata({"channel_def": {"0": "b", "1": "x", "2": "x"}}), _names("x", "x")),
    "values that the bundle does not explain": on_record(_step(TIMES_FIVE), _names(None)),
    "numbered objects": on_record(
        _config((f"  {SAVE}", f"  {NUMBERED}\n  {SAVE}"), ("dtype: uint8", "dtype: int32")), _noted("numbered objects")
    ),
    "probabilities as a mask": on_record(
        _config((ARGMAX, ""), ("output_dtype: uint8", "output_dtype: float32")), _noted("fractions")
    ),
    "a channel for each class": on_record(_config((ARGMAX, ONE_HOT)), _names("one", "two")),
    "masks of another format": on_record(_config((SAVE, "- {_target_: SaveImaged, output_ext: .nrrd")), _names("one", "two")),
    "volumes of an oblique grid": on_record(_oblique(1), _volumes),
    "volumes of a microscopic grid": on_record(_oblique(0.01), _volumes),
    "volumes of a mirrored grid": on_record(_oblique(-1), _volumes),
    "records.csv is a folder": on_record(_table_folder, _no_check, None, codes=(2,)),
    "records.csv leads to an image": on_record(_table_linked, _no_check),
}
