"""A report for others holds numbers in place of names, also where a message holds a part of one."""

import json

import pytest

from monai_tta.pipeline.anonymous_records import LEFT_OUT, anonymous_records
from tests.reporting.example_records import document, entry


def one(name, **changes):
    (found,) = anonymous_records(document() | {"cases": [entry(0, name, **changes)]})["cases"]
    return found


def test_names_masks_and_hashes_are_left_out():
    made = document()
    made["cases"][0] |= {"image_hash": "0a1b", "preview": "good_seg_preview.png", "uncertainty_map": "good_uncertainty.nii.gz"}
    made["cases"][0]["labels"][0]["file"] = "good_seg.nii.gz"
    text = json.dumps(anonymous_records(made)["cases"])
    assert not any(name in text for name in ("good", "doubtful", "mirrored_", "unread", "_seg", "0a1b"))
    assert anonymous_records(made)["run"]["anonymous"] and made["cases"][0]["name"] == "good", "the given ones stay"
    assert made["run"]["starts"] and "starts" not in anonymous_records(made)["run"], "the day may be that of the images"
    assert anonymous_records(document(anonymous=True)) == document(anonymous=True)


@pytest.mark.parametrize(
    ("name", "said", "left"),
    [
        ("jane_doe", "jane_doe.nii.gz ends early", "the image ends early"),
        ("p1_JaneDoe", "JaneDoe.nii.gz ends early", LEFT_OUT),
        ("p1_JaneDoe", "other.nii.gz ends early", "the image ends early"),
        ("p1_Jane Doe", "Jane Doe.nii.gz ends early", LEFT_OUT),
        ("Doe_ct", "the series of DOE lacks slices", LEFT_OUT),
        ("p1_ct", "it ends early", "it ends early"),
        ("hippocampus_001", "001 slices are lost", "001 slices are lost"),
    ],
)
def test_no_message_holds_a_part_of_a_name(name, said, left):
    found = one(name, status="failed", in_words=f"failed: {said}", error=said, notes=[said])
    assert (found["error"], found["notes"], found["in_words"]) == (left, [left], f"failed: {left}")


def test_what_an_adapted_case_says_stays():
    assert one("left_windows")["in_words"] == "adapted on 4 windows"
