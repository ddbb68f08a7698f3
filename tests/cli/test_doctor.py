"""`monai-tta doctor` says what is there, and names what is missing, too old or broken."""

import json

import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline import installation
from monai_tta.pipeline.bundle import BundleError


def look(*words):
    result = CliRunner().invoke(app, ["doctor", *words])
    return result, {one["what"]: one for one in json.loads(result.stdout)} if "--json" in words else {}


@pytest.fixture
def quick(monkeypatch):
    """Without the bundles and the answer, which take seconds."""
    monkeypatch.setattr(installation, "_bundles", list)
    monkeypatch.setattr(installation, "_adapted_answer", lambda: installation.Finding("an adapted answer", "not tried"))


def test_a_whole_installation_has_no_problem():
    result, found = look("--json")
    assert result.exit_code == 0 and "no problem found" in result.stderr, result.output
    assert found["bundle hippocampus_mri"]["found"] == "loads model.pt, model_instance.pt"
    assert found["bundle disc_cup_fundus"]["found"] == "comes without weights"
    assert "the same twice" in found["an adapted answer"]["found"]
    assert {"torch", "monai", "numpy", "CPU", "extra [calibrate]"} <= set(found)
    assert not {"pytest", "extra [dev]"} & set(found)


@pytest.mark.parametrize(("installed", "words"), [(None, "not installed"), ("1.0", ">=1.6 is needed")])
def test_a_missing_or_old_package_is_named_with_what_to_do(quick, monkeypatch, installed, words):
    there = installation._version_of
    monkeypatch.setattr(installation, "_version_of", lambda name: installed if name == "monai" else there(name))
    result, _ = look()
    assert result.exit_code == 2 and words in result.stderr and 'pip install "monai>=1.6"' in result.stderr
    assert "1 problem" in result.stderr


def test_an_extra_that_lacks_something_is_no_problem(quick, monkeypatch):
    there = installation._version_of
    monkeypatch.setattr(installation, "_version_of", lambda name: None if name == "scikit-learn" else there(name))
    result, found = look("--json")
    assert result.exit_code == 0 and found["extra [calibrate]"]["found"] == "not complete: without scikit-learn"


def test_a_broken_bundle_does_not_hide_the_others(monkeypatch):
    load = installation._bundles.__globals__["BUNDLES"]

    def broken(root, checkpoint):
        if root == load / "vessel_fundus":
            raise BundleError("model.pt ends early")

    monkeypatch.setattr("monai_tta.pipeline.bundle.load_bundle", broken)
    found = {one.what: one for one in installation._bundles()}
    assert found["bundle vessel_fundus"].problem == "model.pt ends early" and not found["bundle abdomen_ct"].problem


def test_an_answer_that_differs_is_a_problem(monkeypatch):
    from monai_tta.pipeline.bundle import SourceBundle

    class Random:
        def __init__(self, made):
            self.made = made

        def __call__(self, image, network):
            answer = self.made(image, network)
            self.cases = self.made.cases
            return answer + len(self.cases)

    made = SourceBundle.adapt_with
    monkeypatch.setattr(SourceBundle, "adapt_with", lambda self, method, **options: Random(made(self, method, **options)))
    assert "is not the same twice" in installation._adapted_answer().found
