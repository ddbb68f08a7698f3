"""A preview is drawn of the masks that are there, and leaves them and their folder as they were."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_tta.core.record import Case, StructureQuality
from monai_tta.pipeline import preview
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.picture_planes import intensity_ends
from monai_tta.pipeline.preview import PreviewText, picture_of_entry, write_preview
from monai_tta.pipeline.quality_words import quality_on_record
from monai_tta.reporting.case_pictures import ADAPTED, UNADAPTED

NAMES = LabelNames({0: "background", 1: "head", 2: "tail"})
TEXT = PreviewText(NAMES)


def case_of(**more):
    usual = {"number": 0, "network": "UNet", "method": "Tent()", "head": "softmax", "learn": "volume", "reset": "volume"}
    return Case(**{**usual, "seed": 0, "shape": (1, 1, 20, 22, 24), "n_windows": 2, **more})


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), path)


def mask(first=4, last=12, value=1):
    voxels = np.zeros((20, 22, 24), np.uint8)
    voxels[first:last, 6:14, 8:16] = value
    return voxels


@pytest.fixture
def place(tmp_path):
    save(tmp_path / "Jane Doe" / "ct.nii.gz", np.random.default_rng(0).normal(0, 1, (20, 22, 24)).astype(np.float32))
    save(tmp_path / "out" / "ct_seg.nii.gz", mask())
    return tmp_path


@pytest.fixture
def said(monkeypatch):
    """What is drawn: panels, title, words."""
    found = {}

    def note(panels, title, words):
        found.update(panels=panels, title=title, words=words)
        return b"png"

    monkeypatch.setattr(preview, "draw_preview", note)
    return found


def write(place, unadapted, case=None, text=TEXT, beside=None):
    def answer():
        if isinstance(unadapted, Exception):
            save(place / "out" / "ct_seg.nii.gz", mask(0, 1))
            raise unadapted
        save(place / "out" / "ct_seg.nii.gz", unadapted)

    return write_preview(place / "Jane Doe" / "ct.nii.gz", "ct", case or case_of(), place / "out", beside, answer, text)


def test_it_lies_beside_the_mask_which_stays_as_it_was(place):
    before = (place / "out" / "ct_seg.nii.gz").read_bytes()
    path = write(place, mask(8, 16))
    assert path == place / "out" / "ct_seg_preview.png"
    assert sorted(file.name for file in (place / "out").iterdir()) == ["ct_seg.nii.gz", "ct_seg_preview.png"]
    assert (place / "out" / "ct_seg.nii.gz").read_bytes() == before
    colours = {tuple(colour) for colour in np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)}
    assert {UNADAPTED, ADAPTED} <= colours


def test_what_goes_wrong_leaves_the_masks_as_they_were_and_nothing_else(place):
    before = (place / "out" / "ct_seg.nii.gz").read_bytes()
    with pytest.raises(RuntimeError, match="out of memory"):
        write(place, RuntimeError("out of memory"))
    assert [file.name for file in (place / "out").iterdir()] == ["ct_seg.nii.gz"]
    assert (place / "out" / "ct_seg.nii.gz").read_bytes() == before


def test_the_answers_are_told_apart(place, said):
    write(place, mask(8, 16, 2))
    axial = said["panels"][0]
    assert axial.caption == "axial" and axial.left == "R" and axial.pixel == (1.0, 1.0)
    assert [panel.left for panel in said["panels"]] == ["R", "R", "A"] and said["panels"][1].pixel == (2.0, 1.0)
    assert axial.adapted.sum(axis=(1, 2)).tolist() == [64, 0] and axial.unadapted.sum(axis=(1, 2)).tolist() == [0, 64]
    columns = np.flatnonzero(axial.adapted[0].any(0))
    assert columns.tolist() == list(range(20 - 12, 20 - 4)), "the patient's right is on the left"


def test_an_unadapted_case_has_one_outline_and_costs_no_other_answer(place, said):
    write(place, AssertionError("asked"), case_of(reason="no gain is expected"))
    assert all(panel.adapted is None and panel.unadapted is not None for panel in said["panels"])
    assert said["words"] == "unadapted answer: no gain is expected"


def test_the_title_names_the_mask_and_the_words_say_what_it_is_worth(place, said):
    quality = (
        StructureQuality(structure=1, dice=0.8, low=0.7, high=0.9, spread=0.05, nsd=0.9, nsd_low=0.8, nsd_high=1.0, ranking=0.8),
    )
    write(place, mask(), case_of(quality=quality))
    assert said["title"] == "ct_seg" and said["words"] == (
        "adapted on 2 windows; expected Dice .80 (.70 to .90); surface within 1 voxel .90 (.80 to 1.00)"
    )


def test_an_anonymous_one_names_nobody(place, said):
    reason = f"failed at {place / 'Jane Doe' / 'ct.nii.gz'} of ct_seg.nii.gz"
    write(place, None, case_of(reason=reason), PreviewText(NAMES, anonymous=True))
    assert said["title"] is None and said["words"] == "unadapted answer: failed at the image of the image"
    write_again = case_of(reason=reason)
    (place / "out" / "ct_seg_preview.png").unlink()
    write(place, None, write_again)
    assert "Jane" not in said["words"] and said["title"] == "ct_seg"


@pytest.mark.parametrize("before, through", [(0 * mask(), 10), (mask(2, 6), 4)])
def test_an_empty_mask_says_so_and_shows_the_middle_or_what_was_lost(place, said, before, through):
    save(place / "out" / "ct_seg.nii.gz", 0 * mask())
    write(place, before)
    assert said["words"].startswith("nothing found; adapted")
    image = nib.load(place / "Jane Doe" / "ct.nii.gz").get_fdata()
    assert np.allclose(said["panels"][2].image, image[through, ::-1, ::-1].T)


def test_masks_in_a_folder_of_their_own_and_a_map_that_is_none(place, said):
    (place / "out" / "ct_seg.nii.gz").unlink()
    for name in ("left", "right"):
        save(place / "out" / "ct" / f"{name}.nii.gz", mask())
    save(place / "out" / "ct" / "ct_uncertainty.nii.gz", mask().astype(np.float32) / 3)
    case = case_of(reason="none", head="sigmoid")
    path = write(place, None, case, PreviewText(LabelNames({0: "left", 1: "right"})), place / "out/ct/ct_uncertainty.nii.gz")
    assert path == place / "out" / "ct" / "ct_preview.png" and said["title"] == "ct"
    assert all(len(panel.unadapted) == 2 for panel in said["panels"])


def test_a_mask_of_the_previews_name_is_not_replaced(place):
    (place / "out" / "ct_seg_preview.png").write_bytes(b"mask")
    (place / "out" / "ct_seg.nii.gz").rename(place / "ct_seg.nii.gz")
    save(place / "out" / "ct_seg.nii.gz", mask())
    with pytest.raises(ValueError, match="has the name of the preview"):
        write_preview(
            *(place / "Jane Doe" / "ct.nii.gz", "ct", case_of(), place / "out", place / "out" / "ct_seg_preview.png"),
            *(lambda: None, PreviewText()),
        )
    assert (place / "out" / "ct_seg_preview.png").read_bytes() == b"mask"


@pytest.mark.parametrize("status", ["adapted", "unadapted"])
def test_of_a_case_on_record_the_unadapted_outline_is_missing(place, said, status):
    entry = {"name": "ct", "labels": [{"name": "head", "value": 1}], "status": status, "in_words": "words"}
    picture_of_entry(place / "Jane Doe" / "ct.nii.gz", [place / "out" / "ct_seg.nii.gz"], entry)
    (panel, *_) = said["panels"]
    assert (panel.adapted is not None, panel.unadapted is not None) == (status == "adapted", status != "adapted")
    assert ("not kept" in said["words"]) == (status == "adapted")


def test_a_volume_is_drawn_in_the_range_that_its_bundle_scales(place, said):
    write(place, mask(8, 16), text=PreviewText(NAMES, ends=(-160.0, 240.0)))
    assert {panel.ends for panel in said["panels"]} == {(-160.0, 240.0)}
    entry = {"name": "ct", "labels": [{"name": "head", "value": 1}], "status": "unadapted", "in_words": "words"}
    words = place / "Jane Doe" / "ct.nii.gz", [place / "out" / "ct_seg.nii.gz"], entry
    picture_of_entry(*words, ends=intensity_ends({"run": {"intensity_range": [-160, 240]}}))
    assert {panel.ends for panel in said["panels"]} == {(-160.0, 240.0)}
    assert intensity_ends({"run": {}}) is None and intensity_ends({"run": {"intensity_range": None}}) is None


def test_a_case_on_record_is_described_as_the_run_described_it(place, said):
    quality = (
        StructureQuality(structure=1, dice=0.8, low=0.7, high=0.9, spread=0.1, nsd=0.9, nsd_low=0.8, nsd_high=1.0, ranking=0.5),
    )
    case = case_of(reason="none", quality=quality, input_check="not corrected: mirrored", input_checked=True)
    write(place, None, case)
    words = said["words"]
    assert words.startswith("unadapted answer: none; its input is mirrored; it was not corrected; expected Dice ")
    entry = {
        "name": "ct",
        "labels": [],
        "status": "unadapted",
        "in_words": "unadapted answer: none",
        **quality_on_record(case, NAMES),
    }
    entry |= {"input_check": case.input_check, "input_checked": True}
    picture_of_entry(place / "Jane Doe" / "ct.nii.gz", [place / "out" / "ct_seg.nii.gz"], entry)
    assert said["words"] == words
    del entry["input_checked"]
    picture_of_entry(place / "Jane Doe" / "ct.nii.gz", [place / "out" / "ct_seg.nii.gz"], entry)
    assert said["words"] == "unadapted answer: none", "older records say all of it in their sentence"


def test_a_mask_on_another_grid_is_said(place):
    save(place / "out" / "ct_seg.nii.gz", mask()[:-1])
    with pytest.raises(ValueError, match="on its image's grid"):
        write(place, None, case_of(reason="none"))
    assert [Path(file).name for file in (place / "out").iterdir()] == ["ct_seg.nii.gz"]
