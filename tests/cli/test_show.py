"""`monai-tta show` says what is on record of one case, finds it by its names, and suggests a near one."""

import json

import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.reporting.case_rows import step_rows
from tests.reporting.example_records import document


@pytest.fixture
def masks(tmp_path):
    found = document()
    label = {"name": "anterior", "value": 1, "voxels": 2500, "ml": 2.5}
    reference = {"low": 1.1, "middle": 1.6, "high": 2.1, "cases": 30, "labelled": True}
    found["cases"][0] |= {"labels": [label | {"reference": reference}], "notes": ["turned"], "masks": ["sub/good_seg.nii.gz"]}
    (tmp_path / "records.json").write_text(json.dumps(found), encoding="utf-8")
    return tmp_path


def show(*words, code=0):
    result = CliRunner().invoke(app, ["show", *map(str, words)], env={"COLUMNS": "160"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("name", ["good", "good_seg.nii.gz", "sub/good_seg.nii.gz", "good_seg"])
def test_a_case_by_each_of_its_names(masks, name):
    said = show(masks, name)
    assert "good: adapted on 4 windows" in said and "turned" in said and "GraTa(steps=3)" in said
    assert ".91 (.86 to .95)" in said and ".70 (.50 to .80)" in said, "the mask's and the unadapted answer's"
    assert "2.50 ml" in said and "1.10 to 2.10 ml; this is more" in said
    assert "entropy loss" in said and "0.25" in said and "cosine" in said and "0.4" in said and "0.0001" in said
    assert "doubtful" not in said


def test_the_file_of_records_stands_for_its_folder(masks, tmp_path):
    assert show(masks / "records.json", "good") == show(masks, "good")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert "other.json is not records.json" in show(tmp_path / "other.json", "good", code=2)
    assert "has no records.json" in show(tmp_path / "sub", "good", code=2)


def test_failed_unusual_and_unadapted_cases_say_why(masks):
    assert "failed: it ends early" in show(masks, "unread")
    assert "expects no gain" in show(masks, "plain") and "not known" in show(masks, "plain")
    assert "looks like the source's images" in show(masks, "good") and "was not checked" in show(masks, "plain")
    assert "its input is front-back mirrored; it was not corrected" in show(masks, "mirrored")


def test_a_near_miss_is_suggested(masks):
    assert "Did you mean 'doubtful'?" in show(masks, "doubtfull", code=2)
    assert "has no case or mask 'xyzxyz'" in show(masks, "xyzxyz", code=2)


def test_a_name_of_several_cases_is_refused(masks):
    found = json.loads((masks / "records.json").read_text(encoding="utf-8"))
    found["cases"][1]["masks"] = ["other/good_seg.nii.gz"]
    (masks / "records.json").write_text(json.dumps(found), encoding="utf-8")
    assert "good, doubtful" in show(masks, "good_seg.nii.gz", code=2)
    assert "good: adapted" in show(masks, "sub/good_seg.nii.gz")


def test_an_anonymous_case_goes_by_its_number_and_is_not_drawn(masks):
    (masks / "records.json").write_text(json.dumps(document(anonymous=True)), encoding="utf-8")
    assert "case 0: adapted" in show(masks, "0") and "anonymous" in show(masks, "good", code=2)
    assert "name no masks" in show(masks, "0", "--image", masks / "a.nii.gz", "--out", masks / "a.png", code=2)


def test_a_picture_needs_an_image_and_a_png_and_replaces_no_input(masks):
    assert "both --image and --out" in show(masks, "good", "--image", "a.nii.gz", code=2)
    assert "does not end in .png" in show(masks, "good", "--image", "a.nii.gz", "--out", "b.jpg", code=2)
    assert "not there" in show(masks, "good", "--image", masks / "good.png", "--out", masks / "new.png", code=2)
    (masks / "sub").mkdir()
    (masks / "sub" / "good_seg.nii.gz").write_bytes(b"mask")
    (masks / "good.png").write_bytes(b"photograph")
    assert "is the image" in show(masks, "good", "--image", masks / "good.png", "--out", masks / "good.png", code=2)
    assert (masks / "good.png").read_bytes() == b"photograph"
    assert "failed and has no mask" in show(masks, "unread", "--image", masks / "good.png", "--out", masks / "n.png", code=2)


def test_a_step_without_figures_has_no_row():
    step = {"losses": {}, "cosine": None, "lr": 0.0}
    assert step_rows({"steps": [step]})[1] == []
    assert step_rows({"steps": [step, step | {"cosine": 0.5}]})[1] == [["2", "0.5", ""]]
