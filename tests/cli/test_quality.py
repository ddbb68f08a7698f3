"""`monai-tta run` and what masks are worth: said once where nothing is known, and with every mask where something is."""

import csv
import json
import re

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.cli.quality_options import QualityOptions
from monai_tta.core.network_copy import network_digest
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.quality_words import WITHIN
from monai_tta.pipeline.records import SCHEMA_FILE
from monai_tta.quality.predictor_files import quality_file
from monai_tta.quality.quality_predictor import QualityPredictor
from tests.small import network, quality_stub


@pytest.fixture
def scan(tmp_path):
    image = np.random.default_rng(0).normal(100, 20, (34, 34, 34)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def run(bundle, scan, out, *words):
    method = [] if "--method" in words else ["--method", "source"]
    return CliRunner().invoke(
        app, [str(w) for w in ("run", bundle, scan, "--out", out, "--device", "cpu", "--no-check", *method, *words)]
    )


def mask(out):
    return np.asarray(nib.load(out / "a_seg.nii.gz").dataobj)


def test_it_is_said_with_each_mask_and_on_record_and_changes_no_mask(bundle_copy, scan, tmp_path):
    quality_file(bundle_copy / "models" / "model.pt").unlink()
    without = run(bundle_copy, scan, tmp_path / "without")
    assert without.exit_code == 0, without.output
    assert without.stderr.count("what the masks are worth is not known: model.pt has no quality predictor") == 1
    file = quality_file(bundle_copy / "models" / "model.pt")
    quality_stub(load_bundle(bundle_copy, device="cpu").network).save(file)
    words = ("--accept", "0.65")
    result = run(bundle_copy, scan, tmp_path / "with", "--method", "statistics", *words)
    assert result.exit_code == 0, result.output
    words = r"a\.nii\.gz: expected Dice anterior hippocampus \.(80|00) \(\.[07]0 to \.[80]8\), posterior hippocampus \."
    assert re.search(words, result.stderr), result.stderr
    assert "use" in result.stdout and ("to look at" in result.stdout)
    document = json.loads((tmp_path / "with" / "records.json").read_text(encoding="utf-8"))
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))).validate(document)
    (case,) = document["cases"]
    assert [one["name"] for one in case["quality"]] == [one["name"] for one in case["quality_unadapted"]]
    assert "expected Dice" not in case["in_words"] and "--accept 0.65" in document["run"]["command"]
    assert document["run"]["settings"]["quality_predictor_hash"]
    (row,) = csv.DictReader((tmp_path / "with" / "records.csv").read_text(encoding="utf-8").splitlines())
    name = case["quality"][0]["name"]
    assert float(row[f"{name} (Dice to)"]) == pytest.approx(case["quality"][0]["high"], rel=1e-4)
    assert float(row[f"{name} (NSD from)"]) == pytest.approx(case["quality"][0]["nsd_low"], rel=1e-4)
    assert result.stderr.count(f"; {WITHIN} anterior hippocampus .") == 1, "said once, also where lines stand in place of a bar"
    again = run(bundle_copy, scan, tmp_path / "again", "--method", "statistics", "--no-quality")
    assert again.exit_code == 0 and "expected Dice" not in again.output
    assert (mask(tmp_path / "with") == mask(tmp_path / "again")).all()


def test_a_predictor_of_other_weights_is_not_used_and_refused_where_it_was_named(bundle_copy, scan, tmp_path):
    file = quality_file(bundle_copy / "models" / "model.pt")
    quality_stub(network()).save(file)
    result = run(bundle_copy, scan, tmp_path / "out")
    assert result.exit_code == 0 and "fitted to another network or other weights than model.pt" in result.stderr
    result = run(bundle_copy, scan, tmp_path / "other", "--quality", file)
    assert result.exit_code == 2 and "calibrate again" in result.output
    result = run(bundle_copy, scan, tmp_path / "other", "--accept", "0.8")
    assert result.exit_code == 2 and "--accept needs a quality predictor" in result.output


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"accept": 1.5}, "between 0 and 1"),
        ({"accept": 0.0}, "between 0 and 1"),
        ({"off": True, "accept": 0.8}, "excludes"),
    ],
)
def test_options_that_make_no_sense(wrong, said):
    with pytest.raises(ValueError, match=said):
        QualityOptions(**wrong)


def test_the_shipped_one_fits_its_checkpoint_and_says_what_it_held():
    root = BUNDLE
    shipped = QualityPredictor.load(quality_file(root / "models" / "model.pt"))
    assert shipped.network == network_digest(load_bundle(root, device="cpu").network) and len(shipped.structures) == 2
    for structure in shipped.about["structures"]:
        for figure in ("dice", "nsd"):
            # 190 images show a rate of 90 % to within 2.2 points, one standard deviation.
            assert abs(structure[figure]["coverage held out"] - shipped.rate) <= 0.03
