"""Configs and checkpoints that are broken or hostile."""

import io
import os
import pickle
import zipfile

import numpy as np
import torch

from tests.attack.arena import Attack, command, good_images, small_bundle


class Payload:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def bundle(make, says, codes=(2,), images=None, more=(), fail=0):
    """Good images and a bundle that ``make(root, rng)`` breaks. Where the bundle is accepted, all images are segmented."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        root = small_bundle(folder / "bundle")
        make(root, rng)
        extra = more(root) if callable(more) else more
        return Attack(
            command(folder, rng, inside, bundle=root, more=extra),
            images=images,
            bad=fail if images else None,
            says=says,
            codes=codes,
        )

    return attack


def weights(make, says="cannot be read as weights|does not fit|torch.save made no", **named):
    """The same, where ``make(path, rng)`` breaks ``models/model.pt``."""
    return bundle(lambda root, rng: make(root / "models" / "model.pt", rng), says, **named)


def changed(change):
    """Change the state dict."""

    def make(path, rng):
        state = torch.load(path, weights_only=True)
        torch.save(change(state, rng) or state, path)

    return make


def _any(state, rng):
    floats = [k for k, v in state.items() if v.is_floating_point()]
    return floats[int(rng.integers(len(floats)))]


def poisoned(value):
    def change(state, rng):
        state[_any(state, rng)].view(-1)[0] = value

    return changed(change)


def _reshape(state, rng):
    name = _any(state, rng)
    state[name] = torch.zeros(*state[name].shape, 2)


def _pickled(path, rng):
    path.write_bytes(pickle.dumps({"x": Payload(path.parent / "EXECUTED")}))


def _torch_pickled(path, rng):
    torch.save({"model": Payload(path.parent / "EXECUTED")}, path)


def _zip_bomb(path, rng):
    state = io.BytesIO()
    torch.save({"x": torch.zeros(4)}, state)
    with zipfile.ZipFile(state) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if entry.filename.endswith("data/0"):
                with new.open(entry.filename, "w", force_zip64=True) as file:
                    for _ in range(300):
                        file.write(bytes(1 << 20))
            else:
                new.writestr(entry.filename, old.read(entry))


def _huge_storage(path, rng):
    """A correct legacy pickle whose storage is declared to hold a tebibyte."""
    torch.save({"x": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"K\x07", b"\x8a\x06" + (2**38 + 7).to_bytes(6, "little")))


def _stretched(state, rng):
    name = _any(state, rng)
    state[name] = torch.zeros(1).expand(1 << 40)


def _cut(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(1, len(data) - 1))])


def _flipped(path, rng):
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, len(data), 20):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def _folder(path, rng):
    path.unlink()
    path.mkdir()


def _loop(path, rng):
    path.unlink()
    path.symlink_to(path.name)


CHECKPOINTS = {
    "pickle that runs code": weights(_pickled),
    "torch archive that runs code": weights(_torch_pickled),
    "zip bomb": weights(_zip_bomb, "torch.save made no"),
    "storage of a tebibyte": weights(_huge_storage),
    "a tensor stretched to 2^40": weights(changed(_stretched)),
    "truncated": weights(_cut),
    "bytes flipped": weights(_flipped, "", codes=(0, 2), images=2),
    "empty": weights(lambda p, rng: p.write_bytes(b"")),
    "text": weights(lambda p, rng: p.write_text("epoch 3\n" * 99, encoding="utf-8")),
    "noise": weights(lambda p, rng: p.write_bytes(rng.bytes(5000))),
    "a folder": weights(_folder, "does not exist|is a folder|Is a directory"),
    "link to itself": weights(_loop, "does not exist|links"),
    "link to nothing": weights(lambda p, rng: (p.unlink(), p.symlink_to("/nowhere")), "does not exist"),
    "missing": weights(lambda p, rng: p.unlink(), "does not exist"),
    "a key missing": weights(changed(lambda s, rng: (s.pop(_any(s, rng)), None)[1]), "does not fit"),
    "a key too many": weights(changed(lambda s, rng: s.update(extra=torch.zeros(2))), "does not fit"),
    "other shapes": weights(changed(_reshape), "does not fit"),
    "keys that are numbers": weights(changed(lambda s, rng: dict(enumerate(s.values()))), "does not fit"),
    "values that are no tensors": weights(changed(lambda s, rng: {k: 3.0 for k in s}), "does not fit"),
    "a list": weights(changed(lambda s, rng: list(s.values())), "does not fit"),
    "a number": weights(changed(lambda s, rng: 7), "does not fit"),
    "nothing": weights(lambda p, rng: torch.save({}, p), "does not fit"),
    "None": weights(lambda p, rng: torch.save(None, p), "does not fit"),
    "NaN in a weight": weights(poisoned(float("nan")), "holds NaN or infinity in"),
    "infinity in a weight": weights(poisoned(float("inf")), "holds NaN or infinity in"),
    "half precision": weights(
        changed(lambda s, rng: {k: v.half() if v.is_floating_point() else v for k, v in s.items()}), "", codes=(0,), images=2
    ),
    "inside model": weights(changed(lambda s, rng: {"model": s, "epoch": 3}), "", codes=(0,), images=2),
    "inside nothing known": weights(changed(lambda s, rng: {"weights": s}), "does not fit"),
    "out of the folder": bundle(lambda root, rng: None, "does not exist", more=("--checkpoint", "../../../etc/none.pt")),
    "a name of markup": bundle(lambda root, rng: None, "does not exist", more=("--checkpoint", "[/red]\x1b[2J.pt")),
}


def config(text=None, old="", new="", says="inference.yaml", **named):
    """Replace ``configs/inference.yaml``, or a part of it."""

    def make(root, rng):
        file = root / "configs" / "inference.yaml"
        was = file.read_text(encoding="utf-8")
        assert old in was, old
        now = was.replace(old, new) if text is None else text
        file.write_bytes(now if isinstance(now, bytes) else now.encode())

    return bundle(make, says, **named)


NETWORK = "_target_: UNet"
CONFIGS = {
    "empty": config("", says="inference.yaml|no 'network'"),
    "broken YAML": config("network: [1, 2\nx: }{"),
    "tabs": config("network:\n\t- x"),
    "not text": config(b"\xff\xfe\x00\x01network"),
    "a list": config("- a\n- b\n"),
    "a word": config("hello"),
    "a number": config("42"),
    "a key twice": config("network: 1\nnetwork: 2\n"),
    "a YAML tag that runs code": config("network: !!python/object/apply:os.mkdir ['EXECUTED']\n"),
    "no network": config(old="network", new="other"),
    "no inferer": config(old="inferer:", new="other:"),
    "no preprocessing": config(old="preprocessing:", new="other:", says="preprocessing"),
    "no postprocessing": config(old="postprocessing:", new="other:", says="postprocessing"),
    "a target that is not": config(old=NETWORK, new="_target_: NoSuchNetwork"),
    "a module that is not": config(old=NETWORK, new="_target_: no.such.module.Net"),
    "a target that is no class": config(old=NETWORK, new="_target_: os.path", says="inference.yaml"),
    "arguments that are not": config(old="out_channels: 3", new="no_channels: 3"),
    "channels below zero": config(old="out_channels: 3", new="out_channels: -3"),
    "too large a network": config(old="channels: [4, 8]", new="channels: [4000000, 8000000]", says="inference.yaml"),
    "an expression that fails": config(old='norm: "$', new='norm: "$1/0 if True else '),
    "a reference to nothing": config(old='norm: "@norm"', new='norm: "@nothing"'),
    "references in a circle": config(old="auxiliary_heads: false", new='auxiliary_heads: "@auxiliary_heads"'),
    "imports that are not": config(old="- $import glob", new="- $import no_such_module", codes=(0, 2), says="", images=2),
    "an inferer that is none": config(
        old="inferer: {_target_: SlidingWindowInferer, roi_size: [8, 8, 8], sw_batch_size: 4, overlap: 0.5, mode: gaussian}",
        new="inferer: 7",
    ),
    "a network that is none": config(old='network: "$', new='network: "$7 #'),
    "windows of nothing": config(old="[8, 8, 8]", new="[0, 0, 0]", says="", codes=(2, 3, 0), images=2, fail=None),
    "overlap above one": config(old="overlap: 0.5", new="overlap: 1.5", says="", codes=(2, 3), images=2, fail=2),
    "a transform that is not": config(old="Orientationd", new="NoSuchTransformd", says="cannot be made"),
    "a transform's wrong choice": config(old="axcodes: RAS", new="axcodes: QQQ", says="", codes=(2, 3), images=2, fail=2),
    "metadata of noise": bundle(
        lambda root, rng: (root / "configs" / "metadata.json").write_bytes(rng.bytes(99)), "metadata.json"
    ),
    "metadata of a list": bundle(
        lambda root, rng: (root / "configs" / "metadata.json").write_text("[1]", encoding="utf-8"), "metadata.json", codes=(0, 2)
    ),
    "a folder in its place": bundle(
        lambda root, rng: ((root / "configs" / "inference.yaml").unlink(), (root / "configs" / "inference.yaml").mkdir()),
        "not a MONAI bundle",
    ),
    "no method": bundle(lambda root, rng: None, "no method", more=("--method", "[/x]")),
    "no choice": bundle(lambda root, rng: None, "no choice", more=("--choose", "[/x]=\x1b")),
    "no head": bundle(lambda root, rng: None, "head must be", more=("--head", "tanh")),
    "no seed": bundle(lambda root, rng: None, "", more=("--seed", "x")),
    "a budget below zero": bundle(lambda root, rng: None, "budget", more=("--budget", "-3")),
}
