"""What every command has in common: help, JSON, and one line for a wrong argument."""

import json

import pytest
from typer.testing import CliRunner

from monai_tta import methods
from monai_tta.cli.app import app
from monai_tta.cli.console import print_json
from monai_tta.core.added_files import AddedFile
from monai_tta.core.learned_optimizer import untrained_weights
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.evaluation.cost_job import WAYS
from monai_tta.evaluation.costs import Cost, Profile
from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.quality.gain_predictor import GainPredictor

BUNDLE = BUNDLES / "hippocampus_mri"
COMMANDS = (
    "run",
    "demo",
    "calibrate",
    "check",
    "reference",
    "rehearsal",
    "fisher",
    "night",
    "finetune",
    "pretrain-added",
    "train-optimizer",
    "compare",
    "tables",
    "trust",
    "stream",
    "profile",
    "methods",
    "overlay",
)


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_exit_codes(command):
    long, short = invoke(command, "--help"), invoke(command, "-h")
    assert long.exit_code == 0 and short.output == long.output
    assert f"monai-tta {command}" in long.output and "Example" in long.output and "Exit codes: 0: " in long.output


def test_commands_stand_in_groups():
    said = invoke("--help").output
    places = [said.index(word) for word in ("Segment", "Prepare at the source", "Prepare at the target", "Evaluate", "Inspect")]
    assert places == sorted(places) and all(f" {command} " in said for command in COMMANDS)
    assert "--install-completion" in said


def test_every_method_is_listed():
    result = invoke("methods")
    assert result.exit_code == 0 and all(name.lower() in result.output for name in methods.__all__)
    listed = json.loads(invoke("methods", "--json").stdout)
    assert [entry["class"] for entry in listed] == methods.__all__ and all(entry["summary"] for entry in listed)


def test_an_overlay_is_described_in_json(tmp_path):
    result = invoke("overlay", "hippocampus-mri", "--out", tmp_path / "adapt.yaml", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["written"] == str(tmp_path / "adapt.yaml") and (tmp_path / "adapt.yaml").is_file()
    assert {"of": "head", "found": "softmax"} in found["findings"]


def test_a_profile_in_json_is_the_one_in_the_file(tmp_path, monkeypatch):
    costs = [Cost(way, (1.0, 3.0), None, 2.0, 0.5) for way in WAYS]
    measured = Profile("hippocampus_mri", "Tent()", (1, 1, 32, 32, 32), 8, 1, "AVX2", 40.0, 80.0, tuple(costs))
    monkeypatch.setattr("monai_tta.evaluation.costs.profile", lambda job, repeats: iter(["round 0 of 1", measured]))
    file = tmp_path / "profile.json"
    words = ["profile", "hippocampus_mri", "--method", "tent", "--size", "32,32,32", "--repeats", "1", "--out", file]
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(file.read_text(encoding="utf-8")) and "1/3 round 0 of 1: done" in result.stderr
    table = invoke(*words).stdout
    assert "paper order" in table and "8 windows" in table


def test_a_calibration_in_json_is_what_the_file_says(tmp_path, monkeypatch):
    predictor = GainPredictor.load(BUNDLE / "models" / "gain_predictor.npz")
    monkeypatch.setattr("monai_tta.preparation.calibrate.calibrate", lambda *_, **__: iter([1, 2, predictor]))
    file = tmp_path / "new" / "predictor.npz"
    words = ["calibrate", "hippocampus_mri", "--dataset-dir", tmp_path, "--out", file]
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["written"] == str(file) and found["found"]["margin"] == predictor.margin
    assert found["found"]["cases"] == predictor.about["cases"] == GainPredictor.load(file).about["cases"]
    assert "2/160 distorted images" in result.stderr
    assert f"{predictor.margin:g} spreads" in invoke(*words).stdout


def test_trained_parameters_that_do_not_help_are_told(tmp_path, monkeypatch):
    about = {"agreement, distorted, before": 0.9, "agreement, distorted, after": 0.8}
    trained = AddedFile({"kind": "lora", "rank": 2, "where": ""}, "", {}, about)
    steps = ["a.nii.gz: damaged", 1, 200, trained]
    monkeypatch.setattr("monai_tta.preparation.pretrain_bundle.pretrain_bundle", lambda *settings: iter(steps))
    words = ["pretrain-added", "hippocampus_mri", "--dataset-dir", tmp_path, "--out", tmp_path / "new" / "added.npz"]
    result = invoke(*words)
    assert result.exit_code == 3 and "0.800" in result.stdout and "200/200 steps" in result.stderr
    assert "not read: a.nii.gz: damaged" in result.stderr and "do not use them" in result.stderr
    steps[:] = [200, AddedFile(trained.choices, "", {}, {name: 1 - value for name, value in about.items()})]
    result = invoke(*words, "--json")
    assert result.exit_code == 0 and "do not use them" not in result.stderr
    assert json.loads(result.stdout)["written"].endswith("added.npz") and (tmp_path / "new" / "added.npz").is_file()


def test_a_trained_optimizer_in_json_is_what_the_file_says(tmp_path, monkeypatch):
    made = TrainedOptimizer(untrained_weights(0), "UNet", "abc", about={"epochs": 3})
    given = []
    monkeypatch.setattr(
        "monai_tta.preparation.train_optimizer.train_bundle_optimizer",
        lambda *settings: given.append(settings) or iter([1, 2, made]),
    )
    file = tmp_path / "new" / "optimizer.npz"
    words = ["train-optimizer", "hippocampus_mri", "--dataset-dir", tmp_path, "--out", file, "--size", "5", "--epochs", "3"]
    result = invoke(*words, "--set", "split=source_train", "--images", "4", "--seed", "9", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"found": {"epochs": 3}, "written": str(file)} and "2/15 steps" in result.stderr
    _, folder, checkpoint, settings, keys, device = given[0]
    assert (folder, checkpoint, keys, device) == (tmp_path, "model.pt", {"split": "source_train"}, None)
    assert (settings.images, settings.size, settings.epochs, settings.seed) == (4, 5, 3, 9)
    assert TrainedOptimizer.load(file).tensors == "abc"
    assert "--choose optimizer.file=FILE" in invoke(*words).stdout


def test_numbers_that_json_has_no_word_for_are_null(capsys):
    print_json({"a": [float("nan"), 1.5], 2: (float("inf"), None)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "2": [None, None]}


@pytest.mark.parametrize(
    "words, said",
    [
        (["calibrate", "nowhere", "--dataset-dir", "."], "nowhere is not a MONAI bundle"),
        (["calibrate", "hippocampus_mri", "--dataset-dir", "nowhere"], "nowhere is no folder"),
        (["calibrate", "hippocampus_mri", "--dataset-dir", "empty"], "empty/split.csv"),
        (["pretrain-added", "nowhere", "--dataset-dir", ".", "--out", "o.npz"], "nowhere is not a MONAI bundle"),
        (["pretrain-added", "hippocampus_mri", "--dataset-dir", "nowhere", "--out", "o.npz"], "nowhere is no folder"),
        (["pretrain-added", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o.npz"], "empty holds no image"),
        (["pretrain-added", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o", "--kind", "x"], "'lora' or 'adapter'"),
        (["train-optimizer", "nowhere", "--dataset-dir", "."], "nowhere is not a MONAI bundle"),
        (["train-optimizer", "hippocampus_mri", "--dataset-dir", "nowhere"], "nowhere is no folder"),
        (["train-optimizer", "hippocampus_mri", "--dataset-dir", "empty"], "empty/split.csv"),
        (["train-optimizer", "hippocampus_mri", "--dataset-dir", "empty", "--device", "gpu"], "no device 'gpu'"),
        (["train-optimizer", "hippocampus_mri", "--dataset-dir", "empty", "--set", "x"], "KEY=VALUE"),
        (["reference", "hippocampus_mri", "--out", "o.json"], "give either images of the source, or --dataset-dir"),
        (["reference", "hippocampus_mri", "nowhere", "--out", "o.json"], ""),
        (["reference", "hippocampus_mri", "--dataset-dir", "nowhere", "--out", "o.json"], "nowhere is no folder"),
        (["reference", "hippocampus_mri", "empty", "--out", "o.json", "--device", "gpu"], "no device 'gpu'"),
        (["reference", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o.json"], "empty/split.csv"),
        (["rehearsal", "hippocampus_mri", "--dataset-dir", "nowhere"], "nowhere is no folder"),
        (["rehearsal", "hippocampus_mri", "--dataset-dir", "empty"], "empty/split.csv"),
        (["rehearsal", "hippocampus_mri", "--dataset-dir", "empty", "--device", "gpu"], "no device 'gpu'"),
        (["compare", "empty", "--dataset-dir", "empty", "--out", "o"], "empty has no configs/compare.yaml"),
        (["compare", "hippocampus_mri", "--dataset-dir", "nowhere", "--out", "o"], "nowhere is no folder"),
        (["trust", "empty", "--dataset-dir", "empty", "--out", "o"], "empty has no configs/compare.yaml"),
        (["trust", "hippocampus_mri", "--dataset-dir", "nowhere", "--out", "o"], "nowhere is no folder"),
        (["trust", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o", "--method", "x"], "no row 'x'"),
        (["trust", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o", "--accept", "80"], "at most 1, found 80"),
        (["stream", "empty", "--dataset-dir", "empty", "--out", "o"], "empty has no configs/compare.yaml"),
        (["stream", "hippocampus_mri", "--dataset-dir", "nowhere", "--out", "o"], "nowhere is no folder"),
        (["stream", "hippocampus_mri", "--dataset-dir", "empty", "--out", "file/o", "--workers", "1"], "file"),
        (["compare", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o", "--device", "gpu"], "no device 'gpu'"),
        (["stream", "hippocampus_mri", "--dataset-dir", "empty", "--out", "o", "--device", "gpu"], "no device 'gpu'"),
        (["calibrate", "hippocampus_mri", "--dataset-dir", "empty", "--device", "gpu"], "no device 'gpu'"),
        (["profile", "hippocampus_mri", "--device", "gpu"], "no device 'gpu'"),
        (["finetune", "hippocampus_mri", "--datalist", "nowhere", "--out", "o.pt"], "nowhere is no file"),
        (["finetune", "hippocampus_mri", "--datalist", "file", "--out", "o.pt"], "file is not JSON"),
        (["finetune", "hippocampus_mri", "--datalist", "file", "--out", "file"], "no checkpoint is ever replaced"),
        (["tables", "nowhere"], "nowhere"),
        (["profile", "empty"], "empty is not a MONAI bundle"),
        (["profile", "hippocampus_mri", "--choose", "steps=1.5"], "grata.steps takes a whole number"),
        (["profile", "hippocampus_mri", "--size", "8,8"], ""),
        (["overlay", "empty"], "empty is not a MONAI bundle"),
        (["demo", "--out", "file"], "file"),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    result = invoke(*words)
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2 and lines and said in lines[-1], result.output


@pytest.mark.parametrize("command", ["calibrate", "rehearsal"])
def test_a_missing_extra_is_told_before_any_work(command, monkeypatch, tmp_path):
    monkeypatch.setattr(f"monai_tta.cli.{command}.find_spec", lambda name: None)
    result = invoke(command, "hippocampus_mri", "--dataset-dir", tmp_path)
    assert result.exit_code == 2 and "pip install 'monai-tta[calibrate]'" in result.output
