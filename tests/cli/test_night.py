"""`monai-tta night`, after a day on phantoms."""

import pytest
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.core.diary import Diary
from monai_tta.pipeline import night
from tests.small import image


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def day(phantom_set, tmp_path):
    """The diary of a day on six phantoms, with windows small enough for a short night."""
    out, diary = tmp_path / "masks", tmp_path / "diary"
    words = ["--method", "dyna", "--choose", f"diary={diary}", "--reset", "never"]
    result = invoke("run", "hippocampus_mri", phantom_set / "images", "--out", out, *words)
    assert result.exit_code == 0, result.output
    assert len(Diary(diary).entries()) == 6 and str(diary) not in (out / "records.json").read_text(encoding="utf-8")
    return diary


def test_a_day_and_a_night_make_a_new_checkpoint_that_segments(day, bundle_copy, phantom_set, tmp_path):
    old = (bundle_copy / "models" / "model.pt").read_bytes()
    words = ["--choose", "night.epochs=1", "--choose", "night.select=NormAffine"]
    result = invoke("night", bundle_copy, "--diary", day, "--out", "models/model_night.pt", *words)
    assert result.exit_code == 0, result.output
    assert "learning from 5 images; 1 are held back" in result.stdout and "1 held-back images passed" in result.stdout
    assert (bundle_copy / "models" / "model.pt").read_bytes() == old and not day.exists()
    new = torch.load(bundle_copy / "models" / "model_night.pt", weights_only=True)
    before = torch.load(bundle_copy / "models" / "model.pt", weights_only=True)
    assert new.keys() == before.keys() and any(not torch.equal(new[name], before[name]) for name in new)
    scan = next((phantom_set / "images").iterdir())
    out = tmp_path / "after"
    result = invoke("run", bundle_copy, scan, "--out", out, "--method", "source", "--checkpoint", "model_night.pt")
    assert result.exit_code == 0, result.output
    result = invoke("night", bundle_copy, "--diary", tmp_path, "--out", "models/model.pt")
    assert result.exit_code == 2 and "is there already" in result.output


def test_a_refused_night_writes_nothing_and_says_why(day, bundle_copy, monkeypatch):
    monkeypatch.setattr(night.Guard, "check", lambda self, evidence: "too odd")
    monkeypatch.setattr(night.AllOf, "check", lambda self, evidence: "too odd")
    words = ["--choose", "night.epochs=1", "--choose", "night.select=NormAffine", "--keep-diary"]
    result = invoke("night", bundle_copy, "--diary", day, "--out", "models/new.pt", *words)
    assert result.exit_code == 3 and "refused, and nothing is written: held-back image 1 of 1: too odd" in result.stdout
    assert not (bundle_copy / "models" / "new.pt").exists() and len(Diary(day).entries()) == 6


@pytest.mark.parametrize("out", ["models/new.pt", "nowhere/new.pt"])
def test_a_night_without_a_day_is_refused(tmp_path, bundle_copy, out):
    Diary(tmp_path / "diary").add(image(size=32))
    result = invoke("night", bundle_copy, "--diary", tmp_path / "diary", "--out", out)
    said = "the diary holds 1 images" if out.startswith("models") else "is in a folder that does not exist"
    assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output
    assert len(Diary(tmp_path / "diary").entries()) == 1
    result = invoke("night", bundle_copy, "--diary", tmp_path / "none", "--out", out)
    assert result.exit_code == 2 and "is no folder" in result.output
