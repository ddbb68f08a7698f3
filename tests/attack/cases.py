"""Overrides of a bundle's config, cases of several files, and prompts: broken, contradictory or hostile."""

import json

import numpy as np
import torch

from monai_tta.pipeline import bundle as bundles
from tests.attack.arena import Attack, command, good_images, save, small_bundle, volume
from tests.attack.bundles import bundle

SEQUENCES = ("t1", "t1ce")


def changed(words, says, **named):
    """Good images and overrides: ``words`` of the command line, or a function of the bundle's folder that returns them."""
    return bundle(lambda root, rng: None, says, more=words, **named)


def laid_over(text, says, name="more.yaml", **named):
    """Good images and one more config file with this text."""

    def make(root, rng):
        content = text.encode() if isinstance(text, str) else text(rng)
        (root / "configs" / name).write_bytes(content)

    return bundle(make, says, more=("--config", name), **named)


def two_channels(root):
    """A small bundle whose network takes two channels, with weights."""
    small_bundle(root)
    file = root / "configs" / "inference.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("in_channels: 1\n", "in_channels: 2\n"), encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(bundles.load_bundle(root, None).network.state_dict(), root / "models" / "model.pt")
    return root


def several(spoil, says, images=3, bad=1, codes=(3,), more=None):
    """Three cases of two sequences, of which ``spoil(folder, rng)`` breaks one; it may return other words of the command line."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = folder / "in"
        for case in "abc":
            (inside / case).mkdir(parents=True)
            for sequence in SEQUENCES:
                save(inside / case / f"{case}_{sequence}.nii.gz", volume(rng))
        words = spoil(inside, rng) or (inside, "--group", "{case}_{sequence}.nii.gz", "--sequences", "t1,t1ce")
        root = two_channels(folder / "bundle")
        return Attack(command(folder, rng, *words, bundle=root), images=images, bad=bad, says=says, codes=codes)

    return attack


def refused(spoil, says):
    return several(spoil, says, images=None, bad=None, codes=(2,))


def _listed(content, name="list.json"):
    def spoil(inside, rng):
        file = inside / name
        text = content(inside, rng) if callable(content) else content
        file.write_bytes(text if isinstance(text, bytes) else (text if isinstance(text, str) else json.dumps(text)).encode())
        return (file,)

    return spoil


def _one(action):
    """Break a sequence of case b."""

    def spoil(inside, rng):
        action(inside / "b" / "b_t1ce.nii.gz", rng)

    return spoil


def _items(inside, rng):
    return [{"image": [f"{case}/{case}_{s}.nii.gz" for s in SEQUENCES]} for case in "abc"]


def _with(item):
    return lambda inside, rng: [*_items(inside, rng)[:2], item]


def prompts(content, says, **named):
    """Good images and a file of prompts."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        file = folder / "prompts.json"
        file.write_bytes(content(rng) if callable(content) else content.encode())
        words = command(folder, rng, inside, more=("--prompts", file))
        return Attack(words, images=named.get("images"), bad=named.get("bad"), says=says, codes=named.get("codes", (2,)))

    return attack


FAMILY = {
    "an entry that is not": changed(("--set", "netwrok_def#norm=batch"), "has no 'netwrok_def'"),
    "an entry of escape sequences": changed(("--set", "[/red]\x1b[2J=1"), "has no"),
    "an entry without a value": changed(("--set", "norm="), "KEY=VALUE"),
    "an entry twice": changed(("--set", "norm=batch", "--set", "norm=instance"), "given twice"),
    "an entry inside a number": changed(("--set", "network_def#spatial_dims#x=1"), "no entries of its own"),
    "an entry past the end": changed(("--set", "network_def#channels#99=1"), "numbered from 0"),
    "brackets that do not close": changed(("--set", "network_def#channels=[4, 8"), "do not close"),
    "brackets without end": changed(("--set", "network_def#channels=" + "[" * 5000), "do not close|inference.yaml|has no"),
    "the folder for masks": changed(("--set", "output_dir=/nowhere"), "set by the command"),
    "another network than the weights": changed(("--set", "network_def#channels=[8, 8]"), "does not fit UNet"),
    "an expression that fails in an entry": changed(("--set", "norm=$1/0"), "division by zero"),
    "an expression that ends the process": changed(("--set", "norm=$exit(0)"), "inference.yaml"),
    "overlap as wanted": changed(("--set", "inferer#overlap=0.25"), "", codes=(0,), images=2),
    "a config that is not": changed(("--config", "nowhere.yaml"), "there is no such file"),
    "a config of noise": laid_over(lambda rng: rng.bytes(200), "more.yaml"),
    "a config of a list": laid_over("- 1\n", "must hold sections"),
    "a config that takes the inferer away": laid_over("inferer: null\n", "inference.yaml|inferer"),
    "a config that names a missing checkpoint": laid_over(
        "checkpointloader: {_target_: CheckpointLoader, load_path: models/none.pt}\n", "none.pt, which checkpointloader#load_path"
    ),
    "a config that names two checkpoints": laid_over(
        "one: {_target_: CheckpointLoader, load_path: a.pt}\ntwo: {_target_: CheckpointLoader, load_path: b.pt}\n",
        "several checkpoints",
    ),
    "a sequence missing": several(_one(lambda path, rng: path.unlink()), "case b: it lacks t1ce"),
    "a sequence empty": several(_one(lambda path, rng: path.write_bytes(b"")), "b_t1ce.nii.gz is empty"),
    "a sequence of noise": several(_one(lambda path, rng: path.write_bytes(rng.bytes(500))), "b_t1ce.nii.gz"),
    "a sequence of another size": several(_one(lambda path, rng: save(path, volume(rng, (12, 11, 9)))), "need one grid"),
    "a sequence turned": several(
        _one(lambda path, rng: save(path, volume(rng), np.diag([-1.0, 1, 1, 1]))), "voxels beside b_t1.nii.gz"
    ),
    "a sequence of two channels": several(
        _one(lambda path, rng: save(path, rng.normal(size=(12, 11, 10, 2)).astype(np.float32))), "2 channels itself"
    ),
    "a pattern without a case": refused(lambda i, rng: (i, "--group", "{sequence}.nii.gz", "--sequences", "t1"), "--group needs"),
    "a pattern of a regular expression": refused(
        lambda i, rng: (i, "--group", "(.*{case}[{sequence}", "--sequences", "t1"), "no file fits"
    ),
    "sequences twice": refused(lambda i, rng: (i, "--group", "{case}_{sequence}", "--sequences", "t1,t1"), "different names"),
    "a list as wanted": several(_listed(_items), "channels", bad=0, codes=(0,)),
    "a list with a case of one file": several(_listed(_with({"image": ["c/c_t1.nii.gz"]})), "has 1 files, the others have 2"),
    "a list with a file that is not": several(
        _listed(_with({"image": ["c/c_t1.nii.gz", "c/none.nii.gz"]})), "none.nii.gz does not exist"
    ),
    "a list with one file twice": several(_listed(_with({"image": ["c/c_t1.nii.gz", "c/../c/c_t1.nii.gz"]})), "in it twice"),
    "a list with a name of a path": several(
        _listed(_with({"image": ["c/c_t1.nii.gz", "c/c_t1ce.nii.gz"], "name": "../../x"})), "", bad=0, codes=(0,)
    ),
    "a list of noise": refused(_listed(lambda i, rng: rng.bytes(200)), "no datalist"),
    "a list without end": refused(_listed("[" * 100_000), "no datalist"),
    "a list of nothing": refused(_listed("[]"), "lists no case"),
    "a table of one column": refused(_listed("case\na\n", "list.csv"), "no column of files"),
    "a table of noise": refused(_listed(lambda i, rng: rng.bytes(200), "list.csv"), "list.csv"),
    "prompts of noise": prompts(lambda rng: rng.bytes(200), "is not JSON"),
    "prompts without end": prompts('{"a":' * 50_000, "is not JSON"),
    "prompts of text": prompts('{"label_prompt": "liver"}', "list of class numbers"),
    "prompts of no number": prompts('{"points": [[NaN, 1, 2]], "point_labels": [1]}', "voxel coordinates"),
    "prompts that nothing takes": prompts('{"label_prompt": [1]}', "taken neither by", codes=(3,), images=2, bad=2),
    "prompts of an unknown case": prompts('{"zz": {"label_prompt": [1]}}', "no case is called so"),
}
