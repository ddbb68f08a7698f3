"""Stand-ins for the kinds of bundles in MONAI's model zoo: each is run plain and with an overlay, and compared."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_tta.cli import app
from monai_tta.demo import BUNDLE
from monai_tta.overlay import look, overlay

OVERLAYS = BUNDLE.parent / "overlays"
WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 2, "overlap": 0.25}
SOFTMAX = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
SIGMOID = [
    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
]
FLAT = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2], "norm": "batch"}
# name: network, inferer, postprocessing, expected head, expected selection
KINDS = {
    "unet without affine": (
        {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]},
        WINDOW,
        SOFTMAX,
        "softmax",
        "AttachedAffine()",
    ),
    "segresnet, nested regions": (
        {
            "_target_": "SegResNet",
            "in_channels": 1,
            "out_channels": 3,
            "init_filters": 8,
            "blocks_down": [1, 1],
            "blocks_up": [1],
        },
        WINDOW,
        SIGMOID,
        "sigmoid",
        "NormAffine()",
    ),
    "dynunet": (
        {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "norm_name": "instance",
            "filters": [4, 8, 8],
        },
        {**WINDOW, "_target_": "SlidingWindowInfererAdapt"},
        SOFTMAX,
        "softmax",
        "AttachedAffine()",
    ),
    "basicunet by patches": (
        {"_target_": "BasicUNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": [4, 4, 8, 8, 8, 4]},
        {"_target_": "PatchInferer", "splitter": {"_target_": "SlidingWindowSplitter", "patch_size": [32, 32, 16]}},
        SOFTMAX,
        "softmax",
        "NormAffine()",
    ),
    "swinunetr": (
        {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": [1, 1, 1, 1]},
        {**WINDOW, "roi_size": [64, 32, 32], "overlap": 0.0},
        SOFTMAX,
        "softmax",
        "NormAffine()",
    ),
    "slices": (
        {"_target_": "UNet", **FLAT},
        {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2, "sw_batch_size": 4},
        SOFTMAX,
        "softmax",
        "NormAffine()",
    ),
    "whole volume": (
        {"_target_": "AttentionUnet", "spatial_dims": 3, "in_channels": 1, "out_channels": 1, "channels": [4, 8], "strides": [2]},
        {"_target_": "SimpleInferer"},
        SIGMOID,
        "sigmoid",
        "NormAffine()",
    ),
}


def make(root, kind):
    """A bundle folder with random weights and two scans."""
    network, inferer, post, _, _ = KINDS[kind]
    root = Path(root)
    for folder in ("configs", "models", "scans"):
        (root / folder).mkdir(parents=True)
    saved = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "separate_folder": False, "print_log": False}
    invert = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False}
    config = {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": str(root),
        "dataset_dir": str(root / "scans"),
        "output_dir": str(root / "out"),
        "network_def": network,
        "network": "$@network_def.to('cpu')",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
                {"_target_": "NormalizeIntensityd", "keys": "image"},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': f} for f in sorted(glob.glob(@dataset_dir + '/*.nii.gz'))]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": [invert, *post, saved]},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
    }
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    parser = ConfigParser({"network_def": network})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(parser.get_parsed_content("network_def").state_dict(), root / "models" / "model.pt")
    rng = np.random.default_rng(0)
    for name in "ab":
        affine = np.diag([-1.0, 1, 1.5, 1])
        nib.save(nib.Nifti1Image(rng.normal(size=(32, 32, 32)).astype(np.float32), affine), root / "scans" / f"{name}.nii.gz")
    return root


def run(root, out, *overlays, first=None):
    """The bundle's evaluator, in this process."""
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / "inference.json"), *map(str, overlays)])
    parser.update({"output_dir": str(out)})
    network = parser.get_parsed_content("network")
    weights = torch.load(root / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights)
    evaluator = parser.get_parsed_content("evaluator")
    if first is not None:
        evaluator.data_loader.dataset.data = evaluator.data_loader.dataset.data[first:]
    evaluator.run()
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    return {p.name: nib.load(p) for p in sorted(Path(out).glob("*.nii.gz"))}, evaluator.inferer


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_this_kind_adapts(kind, tmp_path):
    root = make(tmp_path / "bundle", kind)
    plain, _ = run(root, tmp_path / "plain")
    adapted, inferer = run(root, tmp_path / "adapted", OVERLAYS / "wrap.yaml")
    assert list(plain) == list(adapted) and len(plain) == 2
    for name, image in plain.items():
        assert adapted[name].shape == image.shape and adapted[name].get_data_dtype() == image.get_data_dtype()
        np.testing.assert_array_equal(adapted[name].affine, image.affine)
        assert np.isfinite(adapted[name].get_fdata()).all()
    for case in inferer.cases:
        assert case.reason is None and case.travelled > 0 and case.head == KINDS[kind][3] and case.selected == KINDS[kind][4]
    alone, _ = run(root, tmp_path / "alone", OVERLAYS / "wrap.yaml", first=1)
    second, last = (list(masks.values())[-1].get_fdata() for masks in (adapted, alone))
    np.testing.assert_array_equal(second, last)
    written = tmp_path / "written.yaml"
    written.write_text(overlay(look(root)))
    again, _ = run(root, tmp_path / "again", written)
    for name, image in adapted.items():
        np.testing.assert_array_equal(again[name].get_fdata(), image.get_fdata())


@pytest.mark.parametrize("kind", ["unet without affine", "segresnet, nested regions"])
def test_renaming_keeps_the_bundles_windows(kind, tmp_path):
    root = make(tmp_path / "bundle", kind)
    renamed, inferer = run(root, tmp_path / "renamed", OVERLAYS / "adapt.yaml")
    wrapped, _ = run(root, tmp_path / "wrapped", OVERLAYS / "wrap.yaml")
    assert list(inferer.roi_size) == KINDS[kind][1]["roi_size"] and inferer.overlap == KINDS[kind][1]["overlap"]
    for name, image in wrapped.items():
        np.testing.assert_array_equal(renamed[name].get_fdata(), image.get_fdata())


def test_the_overlay_command_says_what_it_finds(tmp_path):
    root = make(tmp_path / "bundle", "dynunet")
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml")])
    assert result.exit_code == 0 and "SlidingWindowInfererAdapt" in result.output and "softmax" in result.output
    assert "AttachedAffine" in result.output and (tmp_path / "o.yaml").exists()


def test_what_a_bundle_does_not_say_is_asked_for(tmp_path):
    root = make(tmp_path / "bundle", "dynunet")
    config = root / "configs" / "inference.json"
    parts = json.loads(config.read_text())
    del parts["postprocessing"]["transforms"][1], parts["inferer"]
    parts["evaluator"]["inferer"] = {"_target_": "SimpleInferer"}
    config.write_text(json.dumps(parts))
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml")])
    assert result.exit_code == 2 and "give --head" in result.output and not (tmp_path / "o.yaml").exists()
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml"), "--head", "softmax"])
    assert result.exit_code == 0 and "SimpleInferer" in (tmp_path / "o.yaml").read_text()
    _, inferer = run(root, tmp_path / "out", tmp_path / "o.yaml")
    assert inferer.cases[-1].reason is None and inferer.cases[-1].head == "softmax"
    del parts["evaluator"]
    config.write_text(json.dumps(parts))
    assert any("no `evaluator`" in problem for problem in look(root).problems)
