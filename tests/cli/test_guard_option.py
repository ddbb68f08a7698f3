"""Guards and reference ranges from the command line, on the hippocampus bundle and phantoms."""

import json

import pytest
from typer.testing import CliRunner

from monai_tta import guards
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.cli.guard_option import GUARDS, parse_guards
from monai_tta.guards import (
    Agreement,
    AllOf,
    Components,
    Distance,
    Entropy,
    Shape,
    ViewAgreement,
    VolumeChange,
    WeightDistance,
    read_reference_ranges,
)


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_guards_by_name():
    assert parse_guards([]) is None
    assert parse_guards(["volume-change:0.3"]) == VolumeChange(0.3)
    assert parse_guards(["VolumeChange", "components:2", "entropy:0.4", "distance:1.5"]) == AllOf(
        [VolumeChange(), Components(2), Entropy(most=0.4), Distance(most=1.5)]
    )
    assert parse_guards(["agreement"]) == Agreement()
    assert parse_guards(["View_Agreement:0.2"]) == ViewAgreement(0.2)
    assert parse_guards(["weight-distance:2"]) == WeightDistance(2.0)


def test_every_option_is_a_public_guard():
    assert {option.kind for option in GUARDS.values()} <= set(guards.__all__)


@pytest.mark.parametrize(
    "said, message",
    [
        ("luck", "no guard 'luck'. Choose one of: finite, volume-change"),
        ("agreemnt", "no guard 'agreemnt'. Did you mean 'agreement'."),
        ("agreement:much", "takes a number, found 'much'"),
        ("components:inf", "takes a number, found 'inf'"),
        ("components:1.5", "whole number of components"),
        ("agreement:3", "least is a soft Dice"),
        ("finite:1", "takes no value"),
        ("shape", "needs --reference FILE"),
        ("entropy", "needs --reference FILE.*or a value"),
    ],
)
def test_nonsense_is_said_in_one_line(said, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_guards([said])
    result = invoke("run", BUNDLE, tmp_path, "--out", tmp_path / "o", "--guard", said)
    assert result.exit_code == 2 and "Traceback" not in result.output


def test_reference_ranges_of_images_and_of_labels(phantom_set, tmp_path):
    plain, true = tmp_path / "plain.json", tmp_path / "true.json"
    done = invoke("reference", BUNDLE, phantom_set / "images", "--out", plain)
    assert done.exit_code == 0 and "reference ranges of 6 cases" in done.output
    done = invoke("reference", BUNDLE, "--dataset-dir", phantom_set, "--out", true)
    assert done.exit_code == 0, done.output
    found, labels = read_reference_ranges(plain), read_reference_ranges(true)
    assert (
        found.cases == 6 and not found.labelled and found.unit == "affine" and len(found.distances) == len(labels.distances) > 5
    )
    assert labels.cases == 2 and labels.labelled
    assert labels.structures[0].volume.middle == 10 * 14 * 10 and labels.structures[1].volume.middle == 8 * 14 * 10
    assert labels.structures[0].components.middle == 1 and 0.8 < labels.structures[0].compactness.middle < 1
    assert labels.entropy.middle > 0


def test_reference_ranges_say_what_is_wrong(tmp_path, phantom_set):
    assert "either images" in invoke("reference", BUNDLE, "--out", tmp_path / "n").output
    assert (
        invoke("reference", BUNDLE, phantom_set / "images", "--dataset-dir", phantom_set, "--out", tmp_path / "n").exit_code == 2
    )
    (phantom_set / "images" / "bad.nii.gz").write_bytes(b"no image")
    done = invoke("reference", BUNDLE, phantom_set / "images", "--out", tmp_path / "n")
    assert done.exit_code == 3 and "not measured: bad.nii.gz" in done.output and read_reference_ranges(tmp_path / "n").cases == 6


def test_a_run_is_guarded_and_says_so(phantom_set, tmp_path):
    known = tmp_path / "reference.json"
    assert invoke("reference", BUNDLE, "--dataset-dir", phantom_set, "--out", known).exit_code == 0
    words = ["run", BUNDLE, phantom_set / "images" / "c0.nii.gz", "--method", "statistics"]
    out = tmp_path / "kept"
    done = invoke(*words, "--out", out, "--guard", "weight-distance", "--guard", "agreement:0")
    assert done.exit_code == 0 and "unadapted answer" not in done.output
    assert json.loads((out / "records.json").read_text(encoding="utf-8"))["cases"][0]["changed_fraction"] is not None
    out = tmp_path / "refused"
    done = invoke(*words, "--out", out, "--guard", "distance", "--guard", "agreement:1", "--reference", known)
    reason = json.loads((out / "records.json").read_text(encoding="utf-8"))["cases"][0]["reason"]
    assert "agree by only" in reason and f"unadapted answer: {reason}" in " ".join(done.output.split())
    out = tmp_path / "shape"
    done = invoke(*words, "--out", out, "--guard", "shape", "--reference", known)
    assert "structure" in json.loads((out / "records.json").read_text(encoding="utf-8"))["cases"][0]["reason"]
    assert parse_guards(["shape"], known) == Shape(read_reference_ranges(known))
