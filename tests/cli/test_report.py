"""`monai-tta report` writes its page from records.json alone, and refuses what is none."""

import json

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.recorded_run import read_records
from monai_tta.pipeline.records import SCHEMA_FILE
from tests.reporting.example_records import document


def report(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_the_page_is_written_beside_the_records(tmp_path):
    (tmp_path / "records.json").write_text(json.dumps(document()), encoding="utf-8")
    result = report(tmp_path)
    assert result.exit_code == 0 and f"written: {tmp_path / 'report.html'}" in result.stdout.replace("\n", "")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "For a Dice of .80 or more" in page and str(tmp_path) not in page
    assert report(tmp_path, "--accept", "0.95", "--out", tmp_path / "other.html").exit_code == 0
    assert "For a Dice of .95 or more: 0 of 5 masks (0 %)" in (tmp_path / "other.html").read_text(encoding="utf-8")


def test_an_anonymous_page_has_numbers_in_place_of_names(tmp_path):
    (tmp_path / "records.json").write_text(json.dumps(document()), encoding="utf-8")
    assert report(tmp_path, "--anonymous").exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "image 3" in page and not any(name in page for name in ("doubtful", ">good", "unread", "plain_seg"))


def test_a_run_writes_it_at_its_end_and_records_stay_as_without(bundle_copy, tmp_path):
    image = np.random.default_rng(0).normal(100, 20, (34, 34, 34)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(b"none")
    words = ["run", str(bundle_copy), str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz"), "--method", "source", "--no-check"]
    words += ["--no-quality"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "masks"), "--report"])
    assert result.exit_code == 3, result.output
    page = (tmp_path / "masks" / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 images (50 %) failed" in page and "worth is not known" in page and str(tmp_path) not in page
    assert "--report" not in (tmp_path / "masks" / "records.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"schema": "other"}', '{"schema": "monai_tta.records", "schema_version": 7}']
)
def test_what_is_no_record_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "records.json").write_text(content, encoding="utf-8")
    result = report(tmp_path)
    assert result.exit_code == 2 and "records.json" in result.stderr and not (tmp_path / "report.html").exists()


def test_the_made_up_records_are_as_the_schema_says_where_they_overlap():
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    properties = schema["$defs"]["case"]["properties"]
    for case in document()["cases"]:
        for name, value in case.items():
            validator = Draft202012Validator(properties[name] | {"$defs": schema["$defs"]})
            assert validator.is_valid(value), name


def test_all_names_of_files_are_read_as_this_locale_takes_them(tmp_path, monkeypatch):
    made = document()
    made["cases"][0] |= {"preview": "p.png", "uncertainty_map": "u.nii.gz"}
    (tmp_path / "records.json").write_text(json.dumps(made), encoding="utf-8")
    monkeypatch.setattr("monai_tta.pipeline.image_names.in_this_locale", lambda name: f"here/{name}")
    case = read_records(tmp_path)["cases"][0]
    assert (case["preview"], case["uncertainty_map"]) == ("here/p.png", "here/u.nii.gz")
    assert case["masks"] == [f"here/{mask}" for mask in made["cases"][0]["masks"]]
