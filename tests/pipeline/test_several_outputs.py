"""Bundles whose network has several outputs: every way to run one makes its masks of the main output."""

import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.output_head import takes_main_only
from monai_tta.pipeline.overlay import look, overlay
from tests.test_zoo import OVERLAYS
from tests.zoo import OWN_SCRIPTS, SOFTMAX, WINDOW, Kind, make, read, run

TAKE_FIRST = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda outputs: outputs[0]"}
TAKE_OUT = {"_target_": "FlattenSubKeysd", "keys": "pred"}
CHANGES = {"adaptive_inferer#method": {"_target_": "monai_tta.Statistics", "statistics": "volume"}}


@pytest.fixture(autouse=True)
def own_scripts(monkeypatch):
    """All bundles call their own code `scripts`, so each test must forget what another imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget()
    yield
    forget()


def forget():
    for name in [n for n in sys.modules if n.split(".")[0] == "scripts"]:
        del sys.modules[name]


def kind(form, dims, post=()):
    window = {**WINDOW, "roi_size": [16] * dims, "overlap": 0.5}
    network = {"_target_": "scripts.own.Several", "form": form, "dims": dims, "channels": 1 if dims == 3 else 3}
    size = (20, 18, 16) if dims == 3 else (40, 28)
    return Kind(network, window, [*post, *SOFTMAX], size=size, scans="a", scripts=OWN_SCRIPTS)


def bundle(folder, form, dims, monkeypatch, post=()):
    forget()
    root = folder / form
    monkeypatch.syspath_prepend(str(root))
    return make(root, kind(form, dims, post))


def masks_by_command(root, out, *words):
    result = CliRunner().invoke(app, ["run", str(root), str(root / "scans"), "--out", str(out), *words])
    return result, [read(path)[0] for path in sorted(out.glob("*.nii.gz")) + sorted(out.glob("*.png"))]


def masks_by_overlay(root, out, *overlays, **options):
    return [mask for mask, _, _ in run(root, out, *overlays, **options)[0].values()]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("form", ["pair", "list", "dictionary", "probabilities"])
def test_masks_are_those_of_the_network_without_other_outputs(form, dims, tmp_path, monkeypatch):
    root = bundle(tmp_path, "alone", dims, monkeypatch)
    (expected,) = masks_by_overlay(root, tmp_path / "expected", OVERLAYS / "wrap.yaml", changes=CHANGES)
    assert 0 < expected.astype(bool).mean() < 1
    root = bundle(tmp_path, form, dims, monkeypatch)
    (found,) = masks_by_overlay(root, tmp_path / "overlay", OVERLAYS / "wrap.yaml", changes=CHANGES)
    by_words = tmp_path / "written.yaml"
    by_words.write_text(overlay(look(root)), encoding="utf-8")
    (written,) = masks_by_overlay(root, tmp_path / "written", by_words, changes=CHANGES)
    result, (by_command,) = masks_by_command(
        root, tmp_path / "command", "--method", "statistics", "--choose", "statistics=volume"
    )
    assert result.exit_code == 0
    # averages of probabilities and of logits differ where windows overlap
    least = 0.97 if form == "probabilities" else 1.0
    for mask in (found, written, by_command):
        assert mask.shape == expected.shape and (mask == expected).mean() >= least


def test_the_main_output_can_be_named(tmp_path, monkeypatch):
    root = bundle(tmp_path, "alone", 3, monkeypatch)
    _, (expected,) = masks_by_command(root, tmp_path / "expected", "--method", "source")
    root = bundle(tmp_path, "second", 3, monkeypatch)
    _, (first,) = masks_by_command(root, tmp_path / "first", "--method", "source")
    result, (named,) = masks_by_command(root, tmp_path / "named", "--method", "source", "--main-output", "1")
    assert result.exit_code == 0 and np.array_equal(named, expected) and not np.array_equal(first, expected)
    changes = {"adaptive_inferer#method": {"_target_": "monai_tta.Source"}, "adaptive_inferer#main_output": 1}
    (by_overlay,) = masks_by_overlay(root, tmp_path / "overlay", OVERLAYS / "wrap.yaml", changes=changes)
    assert np.array_equal(by_overlay, expected)


def test_a_dictionary_without_a_usual_name_makes_no_mask_until_one_is_named(tmp_path, monkeypatch):
    root = bundle(tmp_path, "unnamed", 3, monkeypatch)
    result, masks = masks_by_command(root, tmp_path / "out", "--method", "tent")
    assert result.exit_code == 3 and not masks and "main" in result.output
    result, masks = masks_by_command(root, tmp_path / "again", "--method", "tent", "--main-output", "liver")
    assert result.exit_code == 0 and len(masks) == 1


@pytest.mark.parametrize(("form", "step"), [("pair", TAKE_FIRST), ("dictionary", TAKE_OUT)])
def test_a_postprocessing_that_takes_the_container_apart_gets_it(form, step, tmp_path, monkeypatch):
    copy = [{"_target_": "CopyItemsd", "keys": "out", "names": "pred"}] if form == "dictionary" else []
    root = bundle(tmp_path, form, 2, monkeypatch, [step, *copy])
    (expected,) = masks_by_overlay(root, tmp_path / "plain")
    source = {"adaptive_inferer#method": {"_target_": "monai_tta.Source"}}
    (found,) = masks_by_overlay(root, tmp_path / "overlay", OVERLAYS / "wrap.yaml", changes=source)
    _, (by_command,) = masks_by_command(root, tmp_path / "command", "--method", "source")
    assert np.array_equal(found, expected) and np.array_equal(by_command, expected)


def test_which_postprocessing_takes_one_tensor():
    from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd, FlattenSubKeysd, Lambdad

    class Own:
        keys = ("pred",)

    assert takes_main_only(Compose([Activationsd("pred", softmax=True), AsDiscreted("pred", argmax=True)]))
    assert takes_main_only(Compose([CopyItemsd("pred", names="raw"), AsDiscreted("pred", argmax=True)]))
    assert takes_main_only([Lambdad("image", func=abs), AsDiscreted("pred", argmax=True)]) and takes_main_only([])
    for first in (FlattenSubKeysd("pred"), Lambdad("pred", func=abs), Own()):
        assert not takes_main_only(Compose([first, AsDiscreted("pred", argmax=True)]))
