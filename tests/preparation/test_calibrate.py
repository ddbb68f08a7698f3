"""Calibration: distortions that leave labels in place, windows cut with their labels, a judge from labelled data."""

import json
import subprocess
import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SimpleInferer, SlidingWindowInferer
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.methods.careful import Careful
from monai_tta.pipeline.bundle import BundleError
from monai_tta.pipeline.bundle_predictor import predictor_file, with_bundle_predictor
from monai_tta.preparation.calibrate import CalibrationSettings, label_structures, paired_windows, parse_keys, preserved_by
from monai_tta.preparation.distortions import FAMILIES, Distortion
from monai_tta.quality.gain_predictor import GainPredictor
from tests.small import image, network, stump


def square(dims=2, size=32):
    label = torch.zeros(1, *[size] * dims)
    label[(slice(None), *[slice(8, 24)] * dims)] = 1
    return label * 0.6 + 0.2, label


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("keep", ["range", "moments"])
def test_a_distortion_is_the_seeds_alone_and_keeps_what_a_bundle_would(dims, keep):
    x, y = square(dims)
    generator = torch.get_rng_state()
    for seed in range(6):
        a, mask = Distortion(keep)(x, y, seed)
        b, again = Distortion(keep)(x, y, seed)
        assert torch.equal(a, b) and torch.equal(mask, again) and a.shape == x.shape and mask.shape == y.shape
        assert set(mask.unique().tolist()) <= {0.0, 1.0} and a.isfinite().all() and type(a) is torch.Tensor
        if keep == "range":
            assert a.min() >= x.min() - 1e-6 and a.max() <= x.max() + 1e-6
    assert torch.equal(torch.get_rng_state(), generator)
    assert not torch.equal(Distortion(keep)(x, y, 1)[0], Distortion(keep)(x, y, 2)[0])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_label_goes_where_the_image_goes(dims):
    x, y = square(dims)
    still = Distortion(families=())
    for seed in range(8):
        a, mask = still(x, y, seed)
        inside, outside = a[mask > 0].mean(), a[mask == 0].mean()
        assert inside > 0.7 and outside < 0.4


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_changes_the_picture(family):
    x, y = square()
    x = torch.cat([x, 0.5 * x])
    alone = Distortion(families=(family,), most=1)
    plain = Distortion(families=())
    assert any(not torch.allclose(alone(x, y, s)[0], plain(x, y, s)[0], atol=0.02) for s in range(12))


def test_a_remap_keeps_the_order_of_greys():
    x = torch.linspace(-3, 5, 200).view(1, 10, 20)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        y = FAMILIES["remap"](x, lambda a, b, g=generator: a + (b - a) * float(torch.rand((), generator=g)))
        assert (y.flatten().diff() >= -1e-6).all() and not torch.allclose(y, x, atol=0.1)
        assert float(y.min()) == pytest.approx(-3) and float(y.max()) == pytest.approx(5)


@pytest.mark.parametrize("choices", [{"keep": "nothing"}, {"families": ("gamma", "magic")}])
def test_nonsense_distortions_are_refused(choices):
    with pytest.raises(ValueError, match="keep|magic"):
        Distortion(**choices)


def test_what_normalisation_keeps_is_seen_from_the_images():
    z = [torch.randn(1, 50, 50, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    assert preserved_by(z) == "moments" and preserved_by([*z, torch.rand(1, 50, 50)]) == "range"


@pytest.mark.parametrize("whole", [True, False])
def test_windows_are_cut_with_their_labels(whole):
    net = network(dims=2)
    x = image(2, size=20)
    inner = SimpleInferer() if whole else SlidingWindowInferer(8, 3, 0.5)
    bundle = SimpleNamespace(inferer=inner, network=net, device=torch.device("cpu"))
    windows, truth = paired_windows(bundle, x, 2 * x + 1, "softmax", 2)
    assert len(windows) == (1 if whole else 2) and torch.equal(truth, 2 * windows + 1)
    assert whole or not torch.equal(windows[0], windows[1])


def test_an_image_that_cannot_teach_is_left_out():
    bundle = SimpleNamespace(inferer=SimpleInferer(), network=network(dims=2), device=torch.device("cpu"))
    assert paired_windows(bundle, torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), "softmax", 2) == (None, None)


@given(st.integers(0, 3))
@settings(deadline=None, max_examples=4)
def test_labels_of_all_kinds_become_structures(seed):
    numbers = torch.randint(0, 3, (1, 1, 5, 5), generator=torch.Generator().manual_seed(seed))
    numbers[0, 0, 0, 0] = 2
    channels = torch.cat([numbers == k for k in range(3)], 1)
    for label in (numbers.float(), channels.float(), channels[:, 1:].float()):
        assert torch.equal(label_structures(label, 3, "softmax"), channels[:, 1:])
    assert torch.equal(label_structures(channels[:, 1:].float(), 2, "sigmoid"), channels[:, 1:])
    with pytest.raises(BundleError, match="values up to 2"):
        label_structures(numbers.float(), 2, "softmax")


def test_settings_of_the_command_line():
    assert parse_keys(["split=source_val", "skip=20"]) == {"split": "source_val", "skip": 20}
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_keys(["split"])
    with pytest.raises(ValueError, match="at least 49"):
        CalibrationSettings(size=40, harm=0.02)


def test_a_bundle_is_calibrated_and_then_run_with_its_judge(phantom_set, bundle_copy, tmp_path, monkeypatch):
    """Phantoms by the hippocampus bundle: a file of numbers in the bundle, found by run, compare and nobody else."""
    lines = (phantom_set / "split.csv").read_text().replace("target", "source_val").replace("source_train", "source_val")
    (phantom_set / "split.csv").write_text(lines)
    words = ["calibrate", str(bundle_copy), "--dataset-dir", str(phantom_set), "--set", "split=source_val", "--size", "11"]
    done = CliRunner().invoke(app, [*words, "--harm", "0.1", "--budget", "1"])
    assert done.exit_code == 0, done.output
    file = predictor_file(bundle_copy, "model.pt")
    predictor = GainPredictor.load(file)
    assert predictor.about["cases"] == 11 and predictor.about["harm held out"] <= 0.1
    assert str(phantom_set) not in json.dumps(predictor.about)
    assert with_bundle_predictor(Careful(), bundle_copy, "model.pt") == Careful(predictor=str(file))
    assert with_bundle_predictor(Careful(predictor="universal"), bundle_copy, "model.pt") == Careful(predictor="universal")
    assert with_bundle_predictor(Careful(), bundle_copy, "model_instance.pt") in (
        Careful(),
        Careful(predictor=str(predictor_file(bundle_copy, "model_instance.pt"))),
    )
    stump().save(file)  # phantoms are nothing to this network: its own judge would refuse them
    image_file = phantom_set / "images" / "c0.nii.gz"
    done = CliRunner().invoke(
        app, ["run", str(bundle_copy), str(image_file), "--method", "careful", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "out" / "records.json").read_text())
    assert "judge='judge.npz'" in record["method"] and str(tmp_path) not in json.dumps(record)
    assert "expected gain" in record["steps"][0]["notes"] and record["reason"] is None
    assert np.asarray(nib.load(tmp_path / "out" / "c0_seg.nii.gz").dataobj).shape == (36, 34, 33)


def test_the_overlay_does_what_the_command_does(phantom_set, bundle_copy, tmp_path):
    stump(low=0.1, high=0.3).save(predictor_file(bundle_copy, "model.pt"))
    scans = tmp_path / "scans"
    scans.mkdir()
    (phantom_set / "images" / "c1.nii.gz").rename(scans / "c1.nii.gz")
    overlays = [BUNDLE.parent / "overlays" / f"{name}.yaml" for name in ("adapt", "careful")]
    files = str([str(f) for f in (bundle_copy / "configs" / "inference.yaml", *overlays)])
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, "--bundle_root", str(bundle_copy)]
    ran = subprocess.run(
        [*words, "--dataset_dir", str(scans), "--output_dir", str(tmp_path / "a")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    words = ["run", str(bundle_copy), str(scans), "--out", str(tmp_path / "b"), "--method"]
    for method in ("careful", "source"):
        done = CliRunner().invoke(app, [*words, method, "--anew"])
        assert done.exit_code == 0, done.output
        a, b = (np.asarray(nib.load(tmp_path / x / "c1_seg.nii.gz").dataobj) for x in "ab")
        assert np.array_equal(a, b) == (method == "careful")


def test_a_judge_that_is_not_there_is_told_before_anything_is_done(phantom_set, tmp_path):
    words = ["run", str(BUNDLE), str(phantom_set / "images"), "--method", "careful", "--choose", "judge=nowhere.npz"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "nowhere.npz does not exist" in done.output
    assert not list(tmp_path.glob("out/*.nii.gz"))


def test_too_few_images_end_with_one_line(phantom_set, bundle_copy):
    words = ["calibrate", str(bundle_copy), "--dataset-dir", str(phantom_set), "--set", "split=source_val", "--size", "9"]
    done = CliRunner().invoke(app, [*words, "--harm", "0.1", "--budget", "1"])
    assert done.exit_code == 2 and "2 labelled images" in done.output and "Traceback" not in done.output


def test_the_universal_judge_is_shipped_and_answers():
    from monai_tta.quality.predictor_files import UNIVERSAL, load_predictor

    predictor = load_predictor("universal")
    assert UNIVERSAL.is_file() and UNIVERSAL.stat().st_size < 10e6 and predictor.margin > 0
    assert predictor.about["harm held out"] <= predictor.about["wanted harm"] and len(predictor.about["networks"]) > 10
    assert BUNDLE.name in " ".join(predictor.about["networks"])
