"""Guards and norms from the command line, on the hippocampus bundle and phantoms."""

import json

import pytest
from typer.testing import CliRunner

from monai_tta.cli import app
from monai_tta.commands.guarding import NAMES, named_guard
from monai_tta.demo import BUNDLE
from monai_tta.guards import Agreement, AllOf, Components, Distance, Entropy, Shape, VolumeChange, read_norms


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_guards_by_name():
    assert named_guard([]) is None
    assert named_guard(["volume-change:0.3"]) == VolumeChange(0.3)
    assert named_guard(["VolumeChange", "components:2", "entropy:0.4", "distance:1.5"]) == AllOf(
        [VolumeChange(), Components(2), Entropy(most=0.4), Distance(most=1.5)]
    )
    assert named_guard(["agreement"]) == Agreement() and all(name in NAMES for name in ("shape", "finite"))


@pytest.mark.parametrize(
    "said, message",
    [
        ("luck", "no guard 'luck'; choose of finite, volume-change"),
        ("agreement:much", "takes a number, found 'much'"),
        ("components:inf", "takes a number, found 'inf'"),
        ("components:1.5", "whole number of pieces"),
        ("agreement:3", "least is a soft Dice"),
        ("finite:1", "takes no value"),
        ("shape", "needs --norms FILE"),
        ("entropy", "needs --norms FILE.*or a value"),
    ],
)
def test_nonsense_is_said_in_one_line(said, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        named_guard([said])
    result = invoke("run", BUNDLE, tmp_path, "--out", tmp_path / "o", "--guard", said)
    assert result.exit_code == 2 and "Traceback" not in result.output


def test_norms_of_images_and_of_labels(phantom_set, tmp_path):
    plain, true = tmp_path / "plain.json", tmp_path / "true.json"
    done = invoke("norms", BUNDLE, phantom_set / "images", "--out", plain)
    assert done.exit_code == 0 and "norms of 6 cases" in done.output
    done = invoke("norms", BUNDLE, "--dataset-dir", phantom_set, "--out", true)
    assert done.exit_code == 0, done.output
    found, labels = read_norms(plain), read_norms(true)
    assert (
        found.cases == 6 and not found.labelled and found.unit == "affine" and len(found.distances) == len(labels.distances) > 5
    )
    assert labels.cases == 2 and labels.labelled
    assert labels.structures[0].volume.middle == 10 * 14 * 10 and labels.structures[1].volume.middle == 8 * 14 * 10
    assert labels.structures[0].pieces.middle == 1 and 0.8 < labels.structures[0].compactness.middle < 1
    assert labels.entropy.middle > 0


def test_norms_say_what_is_wrong(tmp_path, phantom_set):
    assert "either images" in invoke("norms", BUNDLE, "--out", tmp_path / "n").output
    assert invoke("norms", BUNDLE, phantom_set / "images", "--dataset-dir", phantom_set, "--out", tmp_path / "n").exit_code == 2
    (phantom_set / "images" / "bad.nii.gz").write_bytes(b"no image")
    done = invoke("norms", BUNDLE, phantom_set / "images", "--out", tmp_path / "n")
    assert done.exit_code == 3 and "not measured: bad.nii.gz" in done.output and read_norms(tmp_path / "n").cases == 6


def test_a_run_is_guarded_and_says_so(phantom_set, tmp_path):
    known = tmp_path / "norms.json"
    assert invoke("norms", BUNDLE, "--dataset-dir", phantom_set, "--out", known).exit_code == 0
    words = ["run", BUNDLE, phantom_set / "images" / "c0.nii.gz", "--method", "statistics"]
    out = tmp_path / "kept"
    done = invoke(*words, "--out", out, "--guard", "travelled", "--guard", "agreement:0")
    assert done.exit_code == 0 and "answered plainly" not in done.output
    assert json.loads((out / "records.json").read_text())[0]["changed"] is not None
    out = tmp_path / "refused"
    done = invoke(*words, "--out", out, "--guard", "distance", "--guard", "agreement:1", "--norms", known)
    reason = json.loads((out / "records.json").read_text())[0]["reason"]
    assert "plain and adapted answers agree by" in reason and f"answered plainly: {reason}" in " ".join(done.output.split())
    out = tmp_path / "shape"
    done = invoke(*words, "--out", out, "--guard", "shape", "--norms", known)
    assert "structure" in json.loads((out / "records.json").read_text())[0]["reason"]
    assert named_guard(["shape"], known) == Shape(read_norms(known))
