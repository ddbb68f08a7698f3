"""The two fundus bundles on small drawn photographs: masks where the photograph has them, training, tables, TorchScript."""

import csv
import os
import re
import runpy
import shlex
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import UNet
from monai.networks.nets.resnet import ResNetBlock
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import nn

from monai_tta import AdaptiveInferer
from monai_tta.cli.demo import BUNDLE
from monai_tta.preparation.resnet_shortcuts import project_shortcuts

VESSEL, DISC = (BUNDLE.parent / name for name in ("vessel_fundus", "disc_cup_fundus"))
OVERLAYS = BUNDLE.parent / "overlays"
DOMAINS = ["RIM_ONE_r3", "REFUGE", "ORIGA", "REFUGE_Valid", "Drishti_GS"]
SMALL = ["--image_size", "[64,64]"]


def bundle_command(*words):
    """Run `python -m monai.bundle` with these words in this process, which saves the seconds of a start."""
    with mock.patch.object(sys, "argv", ["monai.bundle", *map(str, words)]):
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


def bundle_run(root, files, *words):
    bundle_command("run", "--config_file", str([str(f) for f in files]), "--bundle_root", root, *words)


def on_two_processes(root, folder, *words):
    files = str([str(folder / "configs" / name) for name in ("train.yaml", "multi_gpu_train.yaml")])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "monai.bundle"]
    command = [*launcher, "run", "--config_file", files, "--bundle_root", str(root), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def vessel_photograph(height, width, seed):
    """A reddish disc in black with dark vessels in its upper left part: it looks different when mirrored or turned."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    fov = np.hypot((y - height / 2) / height, (x - width / 2) / width) < 0.47
    away = np.minimum(np.where(x < 0.6 * width, abs(y - 0.45 * x - 20), 99), np.where(y < 0.7 * height, abs(x - 0.3 * width), 99))
    vessel = away < 3
    shade = np.exp(-((away / 3) ** 4))[..., None]
    rgb = np.array([180, 70, 20]) - shade * np.array([25, 30, 8]) + rng.normal(0, 2, (height, width, 1))
    return (rgb.clip(0, 255) * fov[..., None]).astype(np.uint8), vessel & fov, fov


@pytest.fixture(scope="module")
def vessels(tmp_path_factory):
    """Three photographs of different sizes and file types, with masks of different codes."""
    root = tmp_path_factory.mktemp("vessels")
    for folder in ("images", "labels", "fov"):
        (root / folder).mkdir()
    for name, size, ending, code in (("a", (150, 210), "png", 1), ("b", (210, 150), "tif", 255), ("c", (180, 190), "jpg", 1)):
        photograph, vessel, fov = vessel_photograph(*size, seed=ord(name))
        fov[:, : size[1] // 3] = False  # what lies outside must not count
        Image.fromarray(photograph).save(root / "images" / f"{name}.{ending}")
        Image.fromarray((vessel * code).astype(np.uint8)).save(root / "labels" / f"{name}.png")
        Image.fromarray((fov * code).astype(np.uint8)).save(root / "fov" / f"{name}_fov.png")
    return root


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """The benchmark's layout: rings in photographs, lists of one or two each; one domain has the size of the network's input."""
    root, rng = tmp_path_factory.mktemp("discs"), np.random.default_rng(0)
    for number, domain in enumerate(DOMAINS):
        (root / domain).mkdir()
        height, width = (64, 64) if domain == "ORIGA" else (80, 96)
        y, x = np.mgrid[:height, :width]
        for end in [""] if domain == "REFUGE_Valid" else ["_train", "_test"]:
            rows = [["image", "mask"]]
            for case in range(6 if domain + end == "RIM_ONE_r3_train" else 1):
                r = np.hypot(y - height / 2 - rng.integers(-8, 8), x - width / 2 - rng.integers(-8, 8))
                rgb = np.stack([110 + 70 * (r < 22) + 60 * (r < 10), 60 + 50 * (r < 22) + 90 * (r < 10), 30 + 20 * (r < 22)], -1)
                photograph = (rgb + 3 * number + rng.normal(0, 4, rgb.shape)).clip(0, 255).astype(np.uint8)
                mask = Image.fromarray(np.where(r < 10, 0, np.where(r < 22, 128, 255)).astype(np.uint8))
                Image.fromarray(photograph).save(root / domain / f"p{end}{case}.png")
                mask.save(root / domain / (f"m{end}{case}-1.tif" if domain == "RIM_ONE_r3" else f"m{end}{case}.bmp"))
                ending = "tif" if domain == "RIM_ONE_r3" else "bmp"
                rows.append([f"{domain}/p{end}{case}.png", f"{domain}/m{end}{case}.{ending}"])
            with open(root / f"{domain}{end}.csv", "w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope="module")
def trained(discs, tmp_path_factory):
    """The disc and cup bundle's own training, for a few steps."""
    root = tmp_path_factory.mktemp("disc_bundle")
    words = ["--dataset_dir", discs, *SMALL, "--max_epochs", 25, "--batch_size", 4, "--learning_rate", 0.01]
    bundle_run(root, [DISC / "configs" / "train.yaml"], *words)
    return root


def masks_of(folder):
    return {f.stem.removesuffix("_seg"): np.asarray(Image.open(f)) for f in sorted(folder.glob("*.png"))}


def test_vessel_masks_lie_on_their_photographs_with_and_without_overlays(vessels, tmp_path):
    inference = VESSEL / "configs" / "inference.yaml"
    for name, overlay in (("unadapted", []), ("adapt", [OVERLAYS / "adapt.yaml"]), ("wrap", [OVERLAYS / "wrap.yaml"])):
        bundle_run(VESSEL, [inference, *overlay], "--dataset_dir", vessels / "images", "--output_dir", tmp_path / name)
    unadapted, adapted, wrapped = (masks_of(tmp_path / name) for name in ("unadapted", "adapt", "wrap"))
    assert set(unadapted) == {"a", "b", "c"}
    for name, mask in unadapted.items():
        truth = np.asarray(Image.open(vessels / "labels" / f"{name}.png")) > 0
        assert mask.shape == truth.shape and set(np.unique(mask)) == {0, 255}
        assert dice(mask > 0, truth) > 0.7
        for answer in (mask > 0, adapted[name] > 0):
            assert dice(answer, truth) > 0.1 + max(dice(m, truth) for m in (answer[::-1], answer[:, ::-1], answer[::-1, ::-1]))
        assert np.array_equal(adapted[name], wrapped[name]) and (adapted[name] != mask).any()


def test_vessel_evaluation_counts_the_field_of_view_only(vessels, tmp_path):
    configs = VESSEL / "configs"
    both = [configs / "inference.yaml", configs / "evaluate.yaml"]
    bundle_run(VESSEL, both[:1], "--dataset_dir", vessels / "images", "--output_dir", tmp_path / "masks")
    bundle_run(VESSEL, both, "--dataset_dir", vessels, "--output_dir", tmp_path / "scores", "--skip", 1)
    found = list(csv.reader(open(tmp_path / "scores" / "val_mean_dice_raw.csv", encoding="utf-8")))[1:]
    assert [os.path.basename(row[0]) for row in found] == ["b.tif", "c.jpg"]
    for (_, score, *_), (name, mask) in zip(found, list(masks_of(tmp_path / "masks").items())[1:], strict=True):
        truth, fov = (np.asarray(Image.open(vessels / p)) > 0 for p in (f"labels/{name}.png", f"fov/{name}_fov.png"))
        assert float(score) == pytest.approx(dice((mask > 0) & fov, truth & fov), abs=1e-4)
        assert abs(float(score) - dice(mask > 0, truth)) > 1e-3


@pytest.mark.parametrize("devices", [1, 2])
def test_vessel_training(vessels, tmp_path, devices):
    words = ["--train_count", 3 - devices, "--max_epochs", 1, "--val_interval", 1, "--batch_size", 1, "--crops_per_case", 2]
    words += ["--roi_size", "[32,32]", "--margin", "[40,40]", "--dataset_dir", vessels]
    if devices == 2:
        on_two_processes(tmp_path, VESSEL, *words)
    else:
        bundle_run(tmp_path, [VESSEL / "configs" / "train.yaml"], *words)
    state, shipped = (torch.load(root / "models" / "model.pt", weights_only=True) for root in (tmp_path, VESSEL))
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in shipped.items()}


def test_disc_and_cup_training_on_two_processes(discs, tmp_path):
    words = ["--dataset_dir", discs, "--source", "ORIGA", *SMALL, "--max_epochs", 1, "--batch_size", 1]
    on_two_processes(tmp_path, DISC, *words)
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in state)


def assd(a, b):
    """Average symmetric surface distance, over the points of both borders together."""
    borders = [m & (distance_transform_edt(np.pad(m, 1))[1:-1, 1:-1] <= 1) for m in (a, b)]
    away = [distance_transform_edt(~border) for border in borders]
    return np.concatenate([away[1][borders[0]], away[0][borders[1]]]).mean()


def test_projected_shortcuts_let_gradients_through():
    network = ConfigParser.load_config_file(str(DISC / "configs" / "train.yaml"))["network_def"]
    network = ConfigParser({"network": network}).get_parsed_content("network").eval()
    blocks = [b for b in network.modules() if isinstance(b, ResNetBlock) and b.downsample is not None]
    assert len(blocks) == 3
    for block in blocks:
        nn.init.zeros_(block.bn2.weight)  # nothing comes through the convolutions
        x = torch.rand(1, block.conv1.in_channels, 4, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(block(x).sum(), x)
        assert gradient.abs().sum() > 0 and block(x).shape == (1, block.conv1.out_channels, 2, 2)
    with pytest.raises(ValueError, match="UNet has no parameter-free"):
        project_shortcuts(UNet(2, 3, 1, (4, 8), (2,)))


def test_the_whole_table_and_its_figures(discs, trained, tmp_path, capsys):
    files = [DISC / "configs" / "inference.yaml", DISC / "configs" / "evaluate.yaml"]
    bundle_run(trained, files, "--dataset_dir", discs, "--output_dir", tmp_path, *SMALL)
    printed = capsys.readouterr().out
    table = list(csv.reader(open(tmp_path / "table.csv", encoding="utf-8")))
    assert table[0] == ["target", "disc Dice", "cup Dice", "disc ASSD", "cup ASSD"]
    assert [row[0] for row in table[1:]] == [*DOMAINS[1:], "mean"]
    assert all("  ".join(f"{word:>12}" for word in row) in printed for row in table)
    figures = np.array([row[1:] for row in table[1:]], float)
    np.testing.assert_allclose(figures[-1], figures[:-1].mean(0), atol=0.011)
    assert (figures[:, 0] > 85).all() and (figures[:, 1] > 60).all()  # channels, codes and axes are the right ones
    masks = tmp_path / "masks"
    bundle_run(trained, files[:1], "--dataset_dir", discs / "ORIGA", "--output_dir", masks, "--endings", "['.png']", *SMALL)
    by_hand = []
    for name, mask in masks_of(masks).items():
        truth = np.asarray(Image.open(discs / "ORIGA" / f"m{name[1:]}.bmp"))
        assert mask.shape == truth.shape and set(np.unique(mask)) <= {0, 128, 255}
        pairs = [(mask < 255, truth < 255), (mask == 0, truth == 0)]
        by_hand.append([*(100 * dice(*p) for p in pairs), *(assd(*p) if p[0].any() else 100 for p in pairs)])
    assert len(by_hand) == 2
    np.testing.assert_allclose(figures[DOMAINS.index("ORIGA") - 1], np.mean(by_hand, 0), rtol=0, atol=0.006)


@pytest.mark.parametrize("overlay, place", [("adapt.yaml", "inferer"), ("wrap.yaml", "adaptive_inferer")])
def test_the_adapted_table_starts_from_the_source_in_each_domain(discs, trained, tmp_path, overlay, place):
    parser = ConfigParser()
    configs = [DISC / "configs" / "inference.yaml", DISC / "configs" / "evaluate.yaml", OVERLAYS / overlay]
    parser.read_config([str(p) for p in configs])
    parser.update({"bundle_root": str(trained), "dataset_dir": str(discs), "output_dir": str(tmp_path), "image_size": [64, 64]})
    parser[f"{place}#reset"] = "never"
    parser.get_parsed_content("load")
    engine, scores = (parser.get_parsed_content(name) for name in ("engine", "scores"))
    nothing_found = {"val_mean_dice": torch.tensor([[1.0, 0.0]]), "assd": torch.tensor([[0.0, torch.inf]])}
    assert scores(nothing_found) == [100, 0, 0, 100]
    engines = [engine(domain) for domain in ("REFUGE", "ORIGA", "REFUGE_Valid")]
    rows = [scores(parser.get_parsed_content("details")(e)) for e in engines]
    assert np.isfinite(rows).all() and all(row[0] > 50 for row in rows)
    assert [len(e.inferer.cases) for e in engines] == [2, 2, 1] and len({id(e.inferer) for e in engines}) == 3
    for e in engines:
        assert isinstance(e.inferer, AdaptiveInferer) and e.inferer.settings.continual
        assert all(case.adapted and case.weight_distance > 0 for case in e.inferer.cases)


@pytest.mark.parametrize("bundle", [VESSEL, DISC], ids=lambda b: b.name)
def test_exported_torchscript_runs_as_the_page_says(bundle, vessels, discs, trained, tmp_path, monkeypatch):
    small, root = (SMALL, trained) if bundle is DISC else ([], VESSEL)
    photographs = discs / "REFUGE_Valid" if bundle is DISC else vessels / "images"
    blocks = re.findall(r"^```bash\n(.*?)^```", (bundle / "docs" / "README.md").read_text(encoding="utf-8"), re.S | re.M)
    export, use = next(b for b in blocks if "ckpt_export" in b).replace("\\\n", " ").replace("\\$", "$").splitlines()
    places = {"models/model.ts": tmp_path / "model.ts", "models/model.pt": root / "models" / "model.pt"}
    places |= {"--bundle_root .": f"--bundle_root {root}", "PHOTOGRAPHS": photographs, "MASKS": tmp_path / "script"}
    monkeypatch.chdir(bundle)
    for line, more in ((export, []), (use, small)):
        for here, there in places.items():
            line = line.replace(here, str(there))
        python, m, module, *words = shlex.split(line)
        assert (python, m, module) == ("python", "-m", "monai.bundle")
        bundle_command(*words, *more)
    bundle_run(root, ["configs/inference.yaml"], "--dataset_dir", photographs, "--output_dir", tmp_path / "eager", *small)
    eager, script = masks_of(tmp_path / "eager"), masks_of(tmp_path / "script")
    assert eager and set(eager) == set(script) and any(len(np.unique(mask)) > 1 for mask in eager.values())
    for name, mask in eager.items():
        assert (script[name] != mask).mean() < 1e-3
