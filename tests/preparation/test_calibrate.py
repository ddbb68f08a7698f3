"""Calibration of a bundle: its gain predictor lies beside its weights, and is found by the commands and by an overlay."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.methods.careful import Careful
from monai_tta.preparation.calibrate import parse_keys
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.predictor_files import UNIVERSAL, load_predictor, predictor_file
from tests.small import stump


def run_command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def calibrate_command(bundle, dataset_dir, size):
    options = ("--set", "split=source_val", "--size", size, "--harm", 0.1, "--budget", 1)
    return run_command("calibrate", bundle, "--dataset-dir", dataset_dir, *options)


def test_keys_of_the_command_line():
    assert parse_keys(["split=source_val", "skip=20"]) == {"split": "source_val", "skip": 20}
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_keys(["split"])


def test_a_bundle_is_calibrated_and_then_run_with_its_own_predictor(phantom_set, bundle_copy, tmp_path):
    """Phantoms by the hippocampus bundle: run finds a file of numbers beside the weights, which tells nothing of the data."""
    split = (phantom_set / "split.csv").read_text(encoding="utf-8")
    (phantom_set / "split.csv").write_text(
        split.replace("target", "source_val").replace("source_train", "source_val"), encoding="utf-8"
    )
    done = calibrate_command(bundle_copy, phantom_set, 11)
    assert done.exit_code == 3 and "of no use" in done.output, "phantoms are nothing to this network"
    weights = bundle_copy / "models" / "model.pt"
    file = predictor_file(weights)
    predictor = GainPredictor.load(file)
    assert predictor.about["cases"] == 11 and predictor.about["harm held out"] <= 0.1
    assert str(phantom_set) not in json.dumps(predictor.about)
    assert Careful().for_checkpoint(weights) == Careful(predictor=str(file))
    assert Careful(predictor="universal").for_checkpoint(weights) == Careful(predictor="universal")

    stump().save(file)  # its own predictor would leave them unadapted
    image = phantom_set / "images" / "c0.nii.gz"
    done = run_command("run", bundle_copy, image, "--method", "careful", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "out" / "records.json").read_text(encoding="utf-8"))["cases"]
    assert "predictor='gain_predictor.npz'" in record["method"] and str(tmp_path) not in json.dumps(record)
    assert "expected gain" in record["steps"][0]["notes"] and record["reason"] is None
    assert np.asarray(nib.load(tmp_path / "out" / "c0_seg.nii.gz").dataobj).shape == (36, 34, 33)


def test_the_overlay_does_what_the_command_does(phantom_set, bundle_copy, tmp_path):
    stump(low=0.1, high=0.3).save(predictor_file(bundle_copy / "models" / "model.pt"))
    scans = tmp_path / "scans"
    scans.mkdir()
    (phantom_set / "images" / "c1.nii.gz").rename(scans / "c1.nii.gz")
    overlays = [BUNDLE.parent / "overlays" / f"{name}.yaml" for name in ("adapt", "careful")]
    files = str([str(f) for f in (bundle_copy / "configs" / "inference.yaml", *overlays)])
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, "--bundle_root", bundle_copy]
    words += ["--dataset_dir", scans, "--output_dir", tmp_path / "overlay"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    by_overlay = np.asarray(nib.load(tmp_path / "overlay" / "c1_seg.nii.gz").dataobj)
    for method in ("careful", "source"):
        done = run_command("run", bundle_copy, scans, "--out", tmp_path / "command", "--method", method, "--restart")
        assert done.exit_code == 0, done.output
        by_command = np.asarray(nib.load(tmp_path / "command" / "c1_seg.nii.gz").dataobj)
        assert np.array_equal(by_overlay, by_command) == (method == "careful")


def test_a_missing_predictor_is_named_before_any_image_is_segmented(phantom_set, tmp_path):
    choices = ("--method", "careful", "--choose", "predictor=nowhere.npz")
    done = run_command("run", BUNDLE, phantom_set / "images", *choices, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "nowhere.npz does not exist" in " ".join(done.output.split())
    assert not list(tmp_path.glob("out/*.nii.gz"))


def test_too_few_images_are_refused_in_one_line_before_any_work(phantom_set, bundle_copy):
    done = calibrate_command(bundle_copy, phantom_set, 9)
    assert done.exit_code == 2 and "found 2 labelled images" in done.output and "Traceback" not in done.output


def test_the_universal_predictor_is_shipped_and_can_be_loaded():
    predictor = load_predictor("universal")
    assert UNIVERSAL.is_file() and UNIVERSAL.stat().st_size < 10e6 and predictor.margin > 0
    assert predictor.about["harm held out"] <= predictor.about["wanted harm"] and len(predictor.about["networks"]) > 10
    assert BUNDLE.name in " ".join(predictor.about["networks"])
