"""`monai-tta run`, on the hippocampus bundle and phantoms."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.shipped_bundles import BUNDLES

BUNDLE = BUNDLES / "hippocampus_mri"


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def scans(tmp_path):
    """Two small phantom scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        image = rng.normal(100, 20, (36, 40, 34)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def records_of(out):
    return json.loads((out / "records.json").read_text(encoding="utf-8"))["cases"]


def test_a_bad_file_does_not_stop_the_others(scans, tmp_path):
    (scans / "c.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:200])
    out = tmp_path / "out"
    result = invoke("run", "hippocampus_mri", scans, "--out", out, "--method", "tent")
    assert result.exit_code == 3, result.output
    assert "failed: c.nii.gz" in result.output and "2 of 3" in result.output and "Traceback" not in result.output
    assert sorted(p.name for p in out.iterdir()) == ["a_seg.nii.gz", "b_seg.nii.gz", "records.csv", "records.json"]
    records = records_of(out)
    assert [r["number"] for r in records] == [0, 1, 2], "each image has its place"
    assert [r["status"] for r in records] == ["adapted", "adapted", "failed"] and records[2]["error"]
    assert all(r["n_windows"] for r in records[:2])


def test_a_log_gets_a_line_per_image_with_the_time_left(scans, tmp_path):
    (scans / "c.nii.gz").write_bytes(b"no image")
    result = invoke("run", BUNDLE, scans, "--out", tmp_path / "out", "--method", "statistics", "--device", "cpu", "--no-quality")
    lines = result.stderr.splitlines()
    lines = lines[lines.index("segmenting 3 images") :]  # after the inputs were checked
    assert re.fullmatch(r"1/3 a\.nii\.gz adapted, [\d.]+ s; about \d+ s left", lines[1])
    assert lines[3] == "3/3 c.nii.gz failed"


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere", "x"], "nowhere is not a MONAI bundle"),
        (["hippocampus_mri", "x", "--method", "magic"], "no method 'magic'"),
        (["hippocampus_mri", "nowhere", "--method", "tent", "--choose", "optimizer.speed=1"], "has no choice 'speed'"),
        (["hippocampus_mri", "nowhere", "--choose", "steps=1"], "--choose is for a method"),
        (["hippocampus_mri", "nowhere", "--guard", "luck"], "no guard 'luck'"),
        (["hippocampus_mri", "nowhere", "--device", "gpu"], "no device 'gpu'"),
        (["hippocampus_mri", "nowhere", "--device", "cuda:99"], "has no device 'cuda:99'"),
        (["hippocampus_mri", "nowhere", "--reference", "nowhere.json", "--guard", "shape"], "nowhere.json"),
        (["hippocampus_mri", "empty"], "empty holds no image"),
        (["hippocampus_mri", "empty", "--checkpoint", "none.pt"], "none.pt does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = invoke("run", *words, "--out", tmp_path / "o")
    lines = [line for line in result.output.splitlines() if not line.startswith("method: ")]
    assert result.exit_code == 2 and len(lines) == 1 and said in lines[0], result.output


class TestSafeMethod:
    def run(self, root, scans, out, checkpoint="model.pt"):
        result = invoke("run", root, scans / "a.nii.gz", "--out", out, "--checkpoint", checkpoint)
        assert result.exit_code == 0, result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("method: ")]
        return line, records_of(out)[0]

    def without_predictors(self, root):
        for file in (root / "models").glob("*.npz"):
            file.unlink()

    def test_careful_where_the_checkpoint_has_a_gain_predictor(self, scans, tmp_path):
        line, record = self.run(BUNDLE, scans, tmp_path / "out")
        assert line == "method: careful, because gain_predictor.npz was calibrated for model.pt"
        assert record["method"].startswith("Careful(predictor='gain_predictor.npz'")

    def test_blended_statistics_where_the_network_has_running_statistics(self, bundle_copy, scans, tmp_path):
        self.without_predictors(bundle_copy)
        line, record = self.run(bundle_copy, scans, tmp_path / "out")
        assert line.startswith("method: statistics, pooled over the volume and blended 0.3, because the network has running")
        assert record["method"] == "Statistics(statistics='volume', blend=0.3)"

    def test_no_adaptation_and_advice_elsewhere(self, bundle_copy, scans, tmp_path):
        self.without_predictors(bundle_copy)
        line, record = self.run(bundle_copy, scans, tmp_path / "out", "model_instance.pt")
        assert line.startswith("method: source (no adaptation), because the network has no running statistics")
        assert "`monai-tta calibrate` makes one" in line and record["method"] == "Source()"

    def test_a_method_that_is_named_is_taken_without_a_word(self, scans, tmp_path):
        result = invoke("run", BUNDLE, scans / "a.nii.gz", "--out", tmp_path / "out", "--method", "Source")
        assert result.exit_code == 0 and "method: " not in result.output
        assert records_of(tmp_path / "out")[0]["method"] == "Source()"
