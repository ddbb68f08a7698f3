"""`monai-tta calibrate` on model folders of nnU-Net: which fold answers which case, and what `run` then says; needs nnunetv2."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.core.network_copy import network_digest
from monai_tta.core.record import Case, StructureQuality
from monai_tta.core.views import Views
from monai_tta.methods import Careful
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.bundle_config import NO_CHANGES
from monai_tta.pipeline.nnunet_inferer import _quality_of_all
from monai_tta.preparation import calibrate as calibrate_module
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import Note
from monai_tta.preparation.nnunet_images import labelled_nnunet_images
from monai_tta.preparation.source_images import open_source_images
from monai_tta.preparation.trained_views import settings_for_source
from monai_tta.preparation.window_pairs import paired_windows
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.quality_predictor import QualityPredictor
from tests.tiny_nnunet import LABELS, REGIONS, model_folder, write_case

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: pip install 'monai-tta[nnunet]'")
SMALL = CalibrationSettings(size=10, budget=1, harm=0.2)


def raw_dataset(folder, names, part="Tr", ignored=()):
    """A folder of nnUNet_raw in which brighter halves of each image are labelled."""
    for number, name in enumerate(names):
        (file,) = write_case(folder / f"images{part}", name, seed=number)
        image = sitk.ReadImage(str(file))
        voxels = sitk.GetArrayFromImage(image)
        values = np.zeros(voxels.shape, np.uint8)
        values[4:12, 4:9], values[4:12, 9:14] = 1, 2
        values[2, 6, 6] = 3 if name in ignored else 0
        voxels[values == 1] += 100
        voxels[values == 2] -= 60
        made = sitk.GetImageFromArray(voxels)
        made.CopyInformation(image)
        sitk.WriteImage(made, str(file), True)
        label = sitk.GetImageFromArray(values)
        label.CopyInformation(image)
        (folder / f"labels{part}").mkdir(exist_ok=True)
        sitk.WriteImage(label, str(folder / f"labels{part}" / f"{name}.nii.gz"), True)
    return folder


def held_out_by(folder, fold, names):
    """The masks that a fold's training leaves of the cases that it held out."""
    (folder / f"fold_{fold}" / "validation").mkdir(exist_ok=True)
    for name in names:
        (folder / f"fold_{fold}" / "validation" / f"{name}.nii.gz").write_bytes(b"")
    (folder / f"fold_{fold}" / "validation" / "summary.json").write_text("{}")


def tta(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def listed(folder, data, checkpoint="checkpoint_final.pth"):
    return labelled_nnunet_images(load_bundle(folder, checkpoint), folder, data, checkpoint)


def test_each_case_is_answered_by_the_fold_that_held_it_out(tmp_path):
    folder = model_folder(tmp_path / "model", folds=(0, 1, 2))
    data = raw_dataset(tmp_path / "data", [f"c{k}" for k in range(6)])
    raw_dataset(data, ["t0"], "Ts")
    images, notes = listed(folder, data)
    assert [image.fold for image in images] == [None] * 7 and "make sure that the network was not trained on them" in notes[0]
    for fold in range(3):
        held_out_by(folder, fold, [f"c{2 * fold}", f"c{2 * fold + 1}"])
    images, notes = listed(folder, data)
    assert [image.fold for image in images] == [0, 0, 1, 1, 2, 2, None] and not notes
    images, (note,) = listed(folder, data, "fold_1/checkpoint_final.pth")
    assert [image.fold for image in images] == [0, 0, None] and note.startswith("of the 6 cases in labelsTr, 4 are not used")
    assert [image.content["label"].name for image in images] == ["c2.nii.gz", "c3.nii.gz", "t0.nii.gz"]
    (folder / "fold_2" / "validation" / "c4.nii.gz").unlink()
    (folder / "fold_2" / "validation" / "c5.nii.gz").unlink()  # a fold that does not say what it held out
    images, (note,) = listed(folder, data)
    assert [image.fold for image in images] == [0, 0, 1, 1, None] and "2 are not used" in note
    held_out_by(folder, 2, ["c4", "c5"])
    (data / "labelsTr" / "c5.nii.gz").rename(data / "labelsTr" / "another.nii.gz")  # so these folds were trained on other data
    (data / "imagesTr" / "c5_0000.nii.gz").rename(data / "imagesTr" / "another_0000.nii.gz")
    assert [image.fold for image in listed(folder, data)[0]] == [None] * 7


def test_fold_all_held_out_nothing(tmp_path):
    folder = model_folder(tmp_path / "model", folds=("all",))
    data = raw_dataset(raw_dataset(tmp_path / "data", ["c0", "c1"]), ["t0"], "Ts")
    held_out_by(folder, "all", ["c0", "c1"])
    images, (note,) = listed(folder, data)
    assert len(images) == 1 and "of the 2 cases in labelsTr, 2 are not used" in note


def test_folds_take_turns_where_any_may_answer(tmp_path):
    folder = model_folder(tmp_path / "model", folds=(0, 1))
    data = raw_dataset(tmp_path / "data", ["c0", "c1", "c2"])
    with open_source_images(folder, data, "checkpoint_final.pth", None, NO_CHANGES) as source:
        one, two = source.bundle.networks
        assert source.answering() == [one, two, one] and source.head == "softmax"


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_labels_lie_on_the_prepared_images_and_windows_are_cut_alike(axes, tmp_path):
    folder = model_folder(tmp_path / "model", axes=axes)
    images, _ = listed(folder, raw_dataset(tmp_path / "data", ["c0"]))
    image, label = images[0].read()
    assert image.shape == (1, *label.shape[1:]) and set(label.unique().tolist()) == {0, 1, 2}
    assert image[label == 1].mean() > image[label == 0].mean() + 1 and image[label == 2].mean() < image[label == 0].mean()
    source = load_bundle(folder)
    marked = image.clone()  # the label is a function of the image, so that a pair that is cut alike still shows it
    windows, labels = paired_windows(source.network, source.inferer, marked[None], 2 * marked[None] + 1, "softmax", 4)
    assert len(windows) == 4 and torch.equal(labels, 2 * windows + 1)
    assert (
        len({tuple(w.flatten()[:50].tolist()) for w in windows.flip(2)} | {tuple(w.flatten()[:50].tolist()) for w in windows})
        == 8
    )


def test_regions_become_channels_and_labels_that_leave_voxels_open_are_refused(tmp_path):
    folder = model_folder(tmp_path / "model", labels=REGIONS)
    images, _ = listed(folder, raw_dataset(tmp_path / "data", ["c0", "open"], ignored=["open"]))
    _, label = images[0].read()
    assert label.shape[0] == 2 and bool((label[0] >= label[1]).all()) and label[0].sum() > label[1].sum() > 0
    with pytest.raises(ValueError, match="leaves voxels open"):
        images[1].read()


def test_views_mirror_as_training_did(tmp_path):
    folder = model_folder(tmp_path / "model", mirrors=(0, 2))
    assert settings_for_source(folder, SMALL).views == Views(axes=(0, 2))
    assert settings_for_source(tmp_path, SMALL) is SMALL
    own = CalibrationSettings(size=10, harm=0.2, method=Careful(views=Views(axes=(1,))))
    assert settings_for_source(folder, own) is own


@pytest.mark.parametrize("kind", ["3d_fullres", "2d", "regions"])
def test_calibrate_makes_both_predictors_and_run_uses_them(kind, tmp_path):
    how = {"labels": REGIONS if kind == "regions" else LABELS, "name": "2d" if kind == "2d" else "3d_fullres"}
    folder = model_folder(tmp_path / "model", folds=(0, 1), mirrors=(0, 1), **how)
    data = raw_dataset(tmp_path / "data", [f"c{k}" for k in range(6)], ignored=["c5"] if kind == "regions" else ())
    done = tta("calibrate", folder, "--dataset-dir", data, "--size", 10, "--harm", 0.2, "--budget", 1)
    assert done.exit_code in (0, 3), done.output  # 3: of no use, because these networks know nothing
    assert ("labelled image 6 of 6 is left out" in done.output) == (kind == "regions")
    gain = GainPredictor.load(folder / "fold_0" / "gain_predictor_checkpoint_final.npz")
    quality = QualityPredictor.load(folder / "fold_0" / "quality_predictor_checkpoint_final.npz")
    assert gain.views == quality.views and gain.views.axes == (0, 1) and gain.about["labels"] == "given"
    assert (gain.views.turns is not None) == ("turned" in str(gain.about.get("views"))) == (kind == "2d"), "turns are measured"
    source = load_bundle(folder)
    assert all(map(quality.fits, source.networks)) and len(quality.network.split()) == 2
    assert network_digest(source.networks[0]) != network_digest(source.networks[1])
    write_case(tmp_path / "in", "case", seed=9)
    for words in ([], ["--method", "tent"]):
        out = tmp_path / f"out{len(words)}"
        done = tta("run", folder, tmp_path / "in", "--out", out, *words)
        assert done.exit_code == 0, done.output
        (case,) = json.loads((out / "records.json").read_text("utf-8"))["cases"]
        assert [len(one) > 3 and 0 <= one["low"] <= one["dice"] <= one["high"] <= 1 for one in case["quality"]] == [True, True]
        assert (case["quality_unadapted"] is not None) == (case["reason"] is None and case["method"] != "Source()") and case[
            "quality_note"
        ] is None
        assert words or "because gain_predictor_checkpoint_final.npz was calibrated" in done.output.replace("\n", " ")
    again = tta("calibrate", folder, "--dataset-dir", data, "--size", 10, "--harm", 0.2, "--budget", 1)
    assert "as an earlier calibration left them" in again.output


def test_quality_alone_and_trust_compare_predicted_with_true_figures(tmp_path):
    folder = model_folder(tmp_path / "model", folds=(0,))
    data = raw_dataset(tmp_path / "data", [f"c{k}" for k in range(6)])
    done = tta("calibrate", folder, "--dataset-dir", data, "--size", 10, "--budget", 1, "--quality-only")
    assert done.exit_code == 0 and not (folder / "fold_0" / "gain_predictor_checkpoint_final.npz").exists(), done.output
    words = ["--out", tmp_path / "trust", "--domain", "labelled", "--limit", 3, "--workers", 1, "--method", "Tent"]
    done = tta("trust", folder, "--dataset-dir", data, *words)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "trust" / "trust.csv").open(encoding="utf-8")))
    assert [row["answer"] for row in rows] == ["unadapted answers"] * 3 + ["Tent"] * 3
    for row in rows[:3]:
        assert 0 < float(row["predicted Dice"]) < 1 and 0 < float(row["true surface 1"]) < 1
    assert {row["predicted Dice"] for row in rows[3:]} == {""}, "nothing is said of adapted answers"


def test_unlabelled_images_do_and_are_grouped_by_nnunets_names(tmp_path):
    folder = model_folder(tmp_path / "model", channels=("T1", "FLAIR"), folds=(0, 1))
    for seed in range(5):
        write_case(tmp_path / "home", f"case{seed}", 2, seed=seed)
    done = tta("calibrate", folder, tmp_path / "home", "--size", 10, "--harm", 0.2, "--budget", 1, "--out", tmp_path / "own.npz")
    assert done.exit_code in (0, 3) and "no quality predictor is made" in done.output, done.output
    assert GainPredictor.load(tmp_path / "own.npz").about["images"] == 5


def test_what_is_left_out_on_purpose_is_said_and_is_no_failure(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "model")
    data = raw_dataset(tmp_path / "data", [f"c{k}" for k in range(7)])
    held_out_by(folder, 0, [f"c{k}" for k in range(5)])
    monkeypatch.setattr(calibrate_module, "collect_cases", lambda *_, **how: iter([len(how["answering"])]))
    settings = settings_for_source(folder, SMALL)
    found = calibrate_module.collect_bundle_cases(
        calibrate_module.CalibrationSet("x"), folder, data, "checkpoint_final.pth", settings
    )
    note, n_answering = found
    assert isinstance(note, Note) and "2 are not used" in note and n_answering == 5


def case(**said):
    """A record."""
    return Case(number=0, network="N", method="Tent", head="softmax", learn="volume", reset="case", seed=0, shape=(1,), **said)


def quality(dice, spread=0.1):
    others = {"nsd": dice, "nsd_low": dice, "nsd_high": dice, "ranking": dice}
    return (StructureQuality(structure=1, dice=dice, low=dice - 0.1, high=dice + 0.1, spread=spread, **others),)


def test_the_mean_of_folds_is_worth_what_they_are_on_average():
    cases = [case(quality=quality(0.6)), case(quality=quality(0.8, 0.3))]
    found = _quality_of_all(cases)
    (mean,) = found["quality"]
    assert mean.dice == pytest.approx(0.7) and mean.low == pytest.approx(0.6) and mean.spread == pytest.approx(0.2)
    assert mean.structure == 1 and found["quality_note"] is None
    unknown = _quality_of_all([cases[0], case(quality_note="no window")])
    assert unknown["quality"] is None and unknown["quality_note"] == "fold 2 of 2: no window"
