"""A folder with several DICOM series: each is a case of its own, with the mask that it gets alone."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline import several_series
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.dicom_marks import read_mark
from monai_tta.pipeline.find_images import search_images
from monai_tta.pipeline.image_names import named_images
from monai_tta.pipeline.input_checks import check_input_file
from tests.pipeline.dicom_slices import SERIES_UID, heights, remove, write_slices


def write_one(folder, number, description="", **more):
    """A series of 14 slices beside those that are there."""
    tags = {"0020|0011": str(number), "0008|103e": description} | more
    names = [f"{number}_{k:03d}.dcm" for k in range(14)]
    return write_slices(folder, heights(), names=names, tags=tags, uid=f"{SERIES_UID}.{number}")


def named(*paths, out):
    found = named_images(paths, out)
    return dict(zip(found.names, found.images, strict=True)), {p.name: reason for p, reason in found.skipped}


@pytest.fixture
def study(tmp_path):
    """Two scans, localizers, and a screenshot in one folder."""
    folder = tmp_path / "in" / "p1" / "study"
    write_one(folder, 12, "T1 sag/p2*")
    write_one(folder, 3, "Abdomen, soft")
    write_one(folder, 1, "scout", **{"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    for file in write_one(folder, 9, "dose report"):
        remove(file, 0x20, 0x32)
    return folder


def test_each_series_is_a_case_called_by_its_number_and_description(study, tmp_path):
    images, skipped = named(tmp_path / "in", out=tmp_path / "out")
    assert list(images) == ["p1_study_3_Abdomen-soft", "p1_study_12_T1-sag-p2"]
    for number, image in zip((3, 12), images.values(), strict=True):
        assert sorted(path.name for path in image.iterdir()) == [f"{number}_{k:03d}.dcm" for k in range(14)]
        assert check_input_file(image).shape[-1] == 14
    assert set(skipped) == {"1_000.dcm", "9_000.dcm"}
    assert "localizers" in skipped["1_000.dcm"] and "does not say where it lies" in skipped["9_000.dcm"]
    again, _ = named(study, out=tmp_path / "out")
    assert list(again) == ["study_3_Abdomen-soft", "study_12_T1-sag-p2"], "below the folder that was given"
    _, twice = named(tmp_path / "in", study, out=tmp_path / "out")
    assert list(twice.values()).count("given twice") == 2


def test_projections_are_cases_where_none_has_a_place(tmp_path):
    for number in (1, 2):
        (first, *others) = write_one(tmp_path / "x", number)
        remove(first, 0x20, 0x32)
        for file in others:
            file.unlink()
    images, skipped = named(tmp_path / "x", out=tmp_path / "out")
    assert list(images) == ["x_1_000", "x_2_000"] and not skipped, "called by their files"


def test_a_radiograph_that_is_called_by_a_uid_keeps_its_last_number(tmp_path):
    for number in (1, 2):
        (first, *others) = write_one(tmp_path / "x", number)
        for file in others:
            file.unlink()
        first.rename(tmp_path / "x" / f"1.2.840.{number}")
    assert list(named(tmp_path / "x", out=tmp_path / "out")[0]) == ["x_1.2.840.1", "x_1.2.840.2"]


def test_a_number_makes_no_name_that_another_series_has(tmp_path):
    for number, description in ((1, "x"), (2, "x"), (3, "x_2")):
        write_one(tmp_path / "s", number, description, **{"0020|0011": "1"})
    images, _ = named(tmp_path / "s", out=tmp_path / "out")
    assert sorted(file.name[0] for image in images.values() for file in image.glob("*_000.dcm")) == ["1", "2", "3"]


def test_two_series_that_are_called_alike_have_two_names(tmp_path):
    write_one(tmp_path / "s", 1, "x")
    for file in write_one(tmp_path / "other", 2, "x", **{"0020|0011": "1"}):
        shutil.move(file, tmp_path / "s" / file.name)
    images, _ = named(tmp_path / "s", out=tmp_path / "out")
    assert list(images) == ["s_1_x", "s_1_x_2"]


def test_a_series_that_is_placed_in_part_is_refused_and_not_skipped(study, tmp_path):
    remove(study / "3_005.dcm", 0x20, 0x32)
    images, _ = named(study, out=tmp_path / "out")
    with pytest.raises(ValueError, match="position .* missing in 3_005.dcm") as refused:
        check_input_file(images["study_3_Abdomen-soft"])
    said = describe_error(refused.value)
    assert f"{study.parent}/study_3_Abdomen-soft" in said and "monai_tta-series" not in said, "links are nobody's business"


def test_where_a_slice_is_damaged_nothing_is_split(study, tmp_path):
    (study / "3_005.dcm").write_bytes(bytes(128) + b"DICM" + bytes(999))
    images, _ = named(study, out=tmp_path / "out")
    assert list(images.values()) == [study]
    with pytest.raises(ValueError, match="3_005.dcm cannot be read"):
        check_input_file(study)


def test_one_series_is_found_without_reading_headers(tmp_path, monkeypatch):
    write_one(tmp_path / "scan", 3)
    monkeypatch.setattr(several_series, "read_slice", lambda file: pytest.fail("read"))
    assert search_images([tmp_path]).images == [tmp_path / "scan"]


def test_a_mark_that_names_several_series_says_none(tmp_path):
    file = tmp_path / "a.dcm"
    series = [b"\x20\x00\x0e\x00UI\x04\x001.2" + end for end in (b".", b"3")]
    for content, expected in ((series[:1], "1.2."), (series, ""), ([], "")):
        file.write_bytes(bytes(128) + b"DICM" + b"".join(content))
        assert read_mark(file).series == expected


def test_a_run_gives_each_series_the_mask_that_it_gets_alone(study, tmp_path):
    bundle = BUNDLE.parent / "abdomen_ct"
    for file in study.glob("12_*"):
        alone = tmp_path / "alone" / "scan"
        alone.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, alone)
    command = ["run", str(bundle), "--method", "statistics", "--no-check", "--out"]
    together = CliRunner().invoke(app, [*command, str(tmp_path / "m"), str(tmp_path / "in")])
    assert together.exit_code == 0, together.output
    assert CliRunner().invoke(app, [*command, str(tmp_path / "a"), str(tmp_path / "alone")]).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "m").glob("*.nii.gz")) == [
        "p1_study_12_T1-sag-p2_seg.nii.gz",
        "p1_study_3_Abdomen-soft_seg.nii.gz",
    ]
    assert "skipped 1 (a series of localizers" in together.output
    masks = [nib.load(path) for path in (tmp_path / "m" / "p1_study_12_T1-sag-p2_seg.nii.gz", tmp_path / "a" / "scan_seg.nii.gz")]
    assert np.array_equal(*(np.asarray(mask.dataobj) for mask in masks)) and np.allclose(masks[0].affine, masks[1].affine)
    hashes = [
        {case["name"]: case["image_hash"] for case in json.loads((tmp_path / out / "records.json").read_text("utf-8"))["cases"]}
        for out in ("m", "a")
    ]
    assert hashes[0]["p1_study_12_T1-sag-p2"] == hashes[1]["scan"]
    words = ["replay", tmp_path / "m", "p1_study_3_Abdomen-soft", bundle, tmp_path / "in"]
    replayed = CliRunner().invoke(app, list(map(str, words)))
    assert replayed.exit_code == 0, replayed.output


def test_where_links_are_not_allowed_slices_are_copied(study, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no privilege")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    images, _ = named(study, out=tmp_path / "out")
    assert all(not path.is_symlink() for image in images.values() for path in image.iterdir())
    assert check_input_file(images["study_12_T1-sag-p2"]).shape[-1] == 14
