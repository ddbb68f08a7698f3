"""Bundles built like those of MONAI's model zoo: each is run unadapted and with an overlay, and the masks are compared."""

import json
import sys

import numpy as np
import pytest
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.overlay import look, overlay
from tests.zoo import KINDS, make, run

OVERLAYS = BUNDLE.parent / "overlays"
# One GraTa step of the 38 million parameters of the HoVerNet takes a minute; what is tested here does not need it.
CHANGES = {"nuclei of several outputs": {"adaptive_inferer#method": {"_target_": "monai_tta.Tent"}}}


@pytest.fixture(autouse=True)
def own_scripts(monkeypatch):
    """All bundles call their own code `scripts`, so each test must forget what another imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [n for n in sys.modules if n.split(".")[0] == "scripts"]:
        del sys.modules[name]


def bundle(folder, name, monkeypatch):
    """A bundle of this kind, whose own code can be imported as `monai.bundle run` does it in the bundle's folder."""
    monkeypatch.syspath_prepend(str(folder / "bundle"))
    return make(folder / "bundle", KINDS[name])


@pytest.mark.parametrize("name", KINDS)
def test_a_bundle_adapts_and_its_masks_keep_their_form(name, tmp_path, monkeypatch):
    kind = KINDS[name]
    root = bundle(tmp_path, name, monkeypatch)
    changes = CHANGES.get(name)
    unadapted, _ = run(root, tmp_path / "unadapted")
    adapted, inferer = run(root, tmp_path / "adapted", OVERLAYS / "wrap.yaml", changes=changes)
    assert list(unadapted) == list(adapted) and len(unadapted) == len(kind.scans)
    for (before, dtype, affine), (after, dtype_after, affine_after) in zip(unadapted.values(), adapted.values(), strict=True):
        assert after.shape == before.shape and dtype_after == dtype and np.isfinite(after).all()
        np.testing.assert_array_equal(affine_after, affine)
    for case in inferer.cases:
        assert case.reason is None and case.weight_distance > 0 and case.head == kind.head and case.selected == kind.selected
    if len(kind.scans) > 1:
        alone, _ = run(root, tmp_path / "alone", OVERLAYS / "wrap.yaml", first=1, changes=changes)
        np.testing.assert_array_equal(list(adapted.values())[-1][0], list(alone.values())[-1][0])
    if name in CHANGES:
        return
    written = tmp_path / "written.yaml"
    written.write_text(overlay(look(root)), encoding="utf-8")
    again, _ = run(root, tmp_path / "again", written)
    for one, other in zip(adapted.values(), again.values(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("name", ["unet without affine", "segresnet, nested regions"])
def test_the_overlay_that_replaces_the_inferer_keeps_its_windows(name, tmp_path):
    root = make(tmp_path / "bundle", KINDS[name])
    own_inferer = KINDS[name].inferer
    renamed, inferer = run(root, tmp_path / "renamed", OVERLAYS / "adapt.yaml")
    wrapped, _ = run(root, tmp_path / "wrapped", OVERLAYS / "wrap.yaml")
    assert list(inferer.roi_size) == own_inferer["roi_size"] and inferer.overlap == own_inferer["overlap"]
    for one, other in zip(renamed.values(), wrapped.values(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_the_validation_of_a_training_config_adapts(phantom_set, bundle_copy):
    parser = ConfigParser()
    parser.read_config([str(bundle_copy / "configs" / "train.yaml"), str(OVERLAYS / "validate.yaml")])
    parser.update({"bundle_root": str(bundle_copy), "dataset_dir": str(phantom_set), "num_workers": 0})
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    assert isinstance(evaluator.inferer, AdaptiveInferer) and len(evaluator.inferer.cases) == 2
    assert all(case.reason is None and case.weight_distance > 0 and case.head == "softmax" for case in evaluator.inferer.cases)
    assert "val_mean_dice" in evaluator.state.metrics


def test_the_overlay_command_reports_what_it_finds(tmp_path):
    root = make(tmp_path / "bundle", KINDS["dynunet"])
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml")])
    assert result.exit_code == 0 and "SlidingWindowInfererAdapt" in result.output and "softmax" in result.output
    assert "AttachedAffine" in result.output and (tmp_path / "o.yaml").exists() and "no weights" not in result.output
    (root / "models" / "model.pt").unlink()
    assert any("no weights" in problem for problem in look(root).problems)


def test_the_overlay_command_asks_for_what_a_bundle_does_not_say(tmp_path):
    root = make(tmp_path / "bundle", KINDS["dynunet"])
    config = root / "configs" / "inference.json"
    parts = json.loads(config.read_text(encoding="utf-8"))
    del parts["postprocessing"]["transforms"][1], parts["inferer"]
    parts["evaluator"]["inferer"] = {"_target_": "SimpleInferer"}
    config.write_text(json.dumps(parts), encoding="utf-8")
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml")])
    assert result.exit_code == 2 and "give --head" in result.output and not (tmp_path / "o.yaml").exists()
    result = CliRunner().invoke(app, ["overlay", str(root), "--out", str(tmp_path / "o.yaml"), "--head", "softmax"])
    assert result.exit_code == 0 and "SimpleInferer" in (tmp_path / "o.yaml").read_text(encoding="utf-8")
    _, inferer = run(root, tmp_path / "out", tmp_path / "o.yaml")
    assert inferer.cases[-1].reason is None and inferer.cases[-1].head == "softmax"
    del parts["evaluator"]
    config.write_text(json.dumps(parts), encoding="utf-8")
    assert any("no `evaluator`" in problem for problem in look(root).problems)
