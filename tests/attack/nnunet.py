"""Model folders of nnU-Net that are broken or hostile, and cases whose files are named oddly."""

import shutil

import numpy as np
import torch

from monai_tta.pipeline import nnunet_folder, shipped_bundles
from monai_tta.pipeline.case_file import write_case_file
from monai_tta.pipeline.find_images import FoundImages
from monai_tta.pipeline.nnunet_cases import list_cases
from monai_tta.pipeline.nnunet_files import Cases
from tests.attack.arena import Attack, save, volume
from tests.attack.bundles import Payload, _cut, _flipped, _folder, _huge_storage, _loop, _zip_bomb
from tests.tiny_nnunet import checkpoint, write_descriptions


def _as_if_installed():
    """What is refused here is refused before nnunetv2 is needed, also where it is not installed."""
    nnunet_folder.check_nnunetv2 = shipped_bundles.check_nnunetv2 = lambda: None


def model(spoil, says, more=()):
    """Good images, and a model folder that ``spoil(folder, rng)`` breaks: it is refused."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        (folder / "in").mkdir()
        for name in "am":
            save(folder / "in" / f"{name}_0000.nii.gz", volume(rng))
        root = folder / "model"
        write_descriptions(root)
        for fold in range(1 + int(rng.integers(3))):
            (root / f"fold_{fold}").mkdir()
            torch.save(checkpoint({"weight": torch.ones(3)}), root / f"fold_{fold}" / "checkpoint_final.pth")
        given = spoil(root, rng) or root
        words = ["run", given, folder / "in", "--out", folder / "out", "--method", "tent", *more]
        return Attack(words, says=says, codes=(2,), before=_as_if_installed)

    return attack


def weights(make, says="weights only|no checkpoint of nnU-Net|torch.save made no"):
    """The same, where ``make(path, rng)`` breaks one fold's checkpoint."""

    def spoil(root, rng):
        files = sorted(root.glob("fold_*/checkpoint_final.pth"))
        make(files[int(rng.integers(len(files)))], rng)

    return model(spoil, says)


def _save(content):
    def make(path, rng):
        torch.save(content(path, rng), path)

    return make


def _odd_init_args(path, rng):
    odd = [None, [], {}, "2d", {"configuration": None}, {"configuration": [1]}, {"configuration": "../../2d"}, 3]
    return checkpoint({}, init_args=odd[int(rng.integers(len(odd)))])


def _odd_mirrors(path, rng):
    return checkpoint({}, mirrors=[7, "012", {"a": 1}, (), (9, 9), torch.ones(3), float("nan")][int(rng.integers(7))])


def _other_fold(root, rng):
    (root / "fold_7").mkdir()
    others = {"name": ["2d", "3d_lowres"][int(rng.integers(2))]} if rng.integers(2) else {"trainer_name": "other"}
    torch.save(checkpoint({}, **others), root / "fold_7" / "checkpoint_final.pth")


def _each(make):
    def spoil(root, rng):
        for file in root.glob("fold_*/*.pth"):
            make(file, rng)

    return spoil


def _without_folds(root, rng):
    for fold in root.glob("fold_*"):
        shutil.rmtree(fold)
    (root / "fold_0").symlink_to("fold_0") if rng.integers(2) else (root / "fold_x").mkdir()


def _description(name):
    def spoil(root, rng):
        texts = [
            "",
            "{",
            "[]",
            "null",
            "[" * 100_000,
            '{"configurations": 3}',
            '{"labels": null}',
            "\x00",
            '{"labels": {"background": 1}}',
        ]
        (root / name).write_text(texts[int(rng.integers(len(texts)))], encoding="utf-8")

    return spoil


def _as_folder(root, rng):
    file = root / ["plans.json", "dataset.json"][int(rng.integers(2))]
    file.unlink()
    file.mkdir()


def _names(seed, folder):
    """Files with hostile names, given in any order: each is accounted for once, in its own case or on its own."""
    rng = np.random.default_rng(seed)
    parts = ["a", "b_0000", "..", "x\ny", "0001", "_", "ü", "\udcff", "c.nii.gz", "-v", " ", "%s", "{0}", "$HOME"]
    files = []
    for _ in range(40):
        stem = "_".join(parts[i] for i in rng.integers(0, len(parts), 1 + int(rng.integers(3))))
        ending = [".nii.gz", ".nii", ".NII.GZ", ""][int(rng.integers(4))]
        files.append(folder / f"{stem}_{int(rng.integers(0, 4)):04d}{ending}")
    cases = Cases(".nii.gz", ("T1", "T2"))

    def play():
        firsts = cases.first_files(files)
        named = {(file.parent, cases.name(file)) for file in firsts}
        lost = [file for file in files if file not in firsts and (file.parent, cases.name(file)) not in named]
        twice = [file for file in firsts if firsts.count(file) > 1]
        wrong = [f"lost: {file.name!r}" for file in lost] + [f"twice: {file.name!r}" for file in twice]
        listed = list_cases(cases, FoundImages(list(files), [folder] * len(files)), folder / "out")
        made = [write_case_file(case, folder) for case in listed]
        wrong += [] if len(set(made)) == len(firsts) else [f"{len(firsts)} cases in {len(set(made))} files"]
        wrong += [f"no problem: {case.name!r}" for case in listed if not case.problem]
        for file in firsts:
            try:
                cases.files(file)
                wrong.append(f"accepted, and is not there: {file.name!r}")
            except ValueError:
                continue
        return wrong

    return Attack(play=play)


FAMILY = {
    "pickle that runs code": weights(_save(lambda path, rng: Payload(path.parent / "EXECUTED"))),
    "code in the place of a score": weights(_save(lambda path, rng: checkpoint({}, _best_ema=Payload(path.parent / "EXECUTED")))),
    "arrays where scalars are": weights(_save(lambda path, rng: checkpoint({}, _best_ema=np.ones(3)))),
    "zip bomb": weights(_zip_bomb, "torch.save made no"),
    "storage of a tebibyte": weights(_huge_storage),
    "truncated": weights(_cut),
    "bytes flipped": weights(_flipped, ""),
    "a bundle's weights": weights(_save(lambda path, rng: {"model": {"weight": torch.ones(3)}})),
    "odd set-up": weights(_save(_odd_init_args), ""),
    "odd mirrors": weights(_save(_odd_mirrors), "are no axes"),
    "folds of two models": model(_other_fold, "not one model"),
    "no folds": model(_without_folds, "has no fold"),
    "checkpoints that are folders": model(_each(_folder), "has no fold"),
    "checkpoints that are loops": model(_each(_loop), "has no fold"),
    "a checkpoint outside": model(lambda root, rng: None, "has no", ("--checkpoint", "../in/a_0000.nii.gz")),
    "a fold": model(lambda root, rng: root / "fold_0", "is a fold"),
    "the folder above": model(lambda root, rng: root.parent, "give one of them: model"),
    "odd plans.json": model(_description("plans.json"), ""),
    "odd dataset.json": model(_description("dataset.json"), ""),
    "a description that is a folder": model(_as_folder, "is not a MONAI bundle"),
    "hostile names": _names,
}
