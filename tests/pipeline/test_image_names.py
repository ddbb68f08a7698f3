"""One name per image: unique, and the one that its mask gets."""

import pytest

from monai_tta.pipeline import image_names as module
from monai_tta.pipeline.find_images import search_images
from monai_tta.pipeline.image_names import image_names, name_of


def names(root, files, given=(".",)):
    """Names of images of these files; a path with a slash at its end is the folder of a series."""
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True)
            (path / "1").write_bytes(bytes(128) + b"DICM")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = search_images([root / path for path in given])
    made = image_names(found.images, found.roots, root / "out")
    return {image.relative_to(root).as_posix(): name for image, name in zip(found.images, made, strict=True)}


def test_names_that_are_unique_are_those_of_the_files(tmp_path):
    files = ["scan.nii.gz", "b.NII", "x.y.z.mha", "eye.jpg", "patient/"]
    assert set(names(tmp_path, files).values()) == {"scan", "b", "x.y.z", "eye", "patient"}


def test_a_folder_keeps_all_of_its_name(tmp_path):
    assert set(names(tmp_path, ["1.2.840.11/", "1.2.840.12/", "p.nii/"]).values()) == {"1.2.840.11", "1.2.840.12", "p.nii"}


def test_what_lies_deeper_is_named_after_its_folders(tmp_path):
    found = names(tmp_path, ["p1/ct.nii.gz", "p2/ct.nii.gz", "p3/st/se.1/", "ct.nii.gz"])
    assert found == {"p1/ct.nii.gz": "p1_ct", "p2/ct.nii.gz": "p2_ct", "p3/st/se.1": "p3_st_se.1", "ct.nii.gz": "ct"}


@pytest.mark.parametrize(
    ("files", "given", "made"),
    [
        (["a.png", "a.jpg", "b.jpg"], ["."], {"a_png", "a_jpg", "b"}),
        (["scan/", "scan.nii.gz"], ["."], {"scan", "scan_nii"}),
        (["mon/s.nii", "tue/s.nii"], ["mon", "tue"], {"mon_s", "tue_s"}),
        (["mon/x/s.nii", "tue/x/s.nii"], ["mon/x/s.nii", "tue/x/s.nii"], {"mon_x_s", "tue_x_s"}),
        (["mon/s.nii", "mon/s.mha", "tue/s.nii"], ["mon", "tue"], {"mon_s", "s_mha", "tue_s"}),
        (["a_b/c.nii", "a/b_c.nii"], ["."], {"a_b_c", "a_b_c_2"}),
        (["p/a.nii", "p_a.nii", "p_a_2.nii"], ["."], {"p_a", "p_a_3", "p_a_2"}),
    ],
)
def test_names_that_would_be_the_same_get_more(tmp_path, files, given, made):
    found = names(tmp_path, files, given)
    assert set(found.values()) == made and len(found) == len(made)


def test_names_that_differ_in_case_are_the_same_only_where_the_folder_says_so(tmp_path, monkeypatch):
    (tmp_path / "Scan.nii").touch()
    (tmp_path / "scan.nii").touch()
    assert set(names(tmp_path, []).values()) == {"Scan", "scan"}
    monkeypatch.setattr(module, "ignores_case", lambda folder: True)
    assert set(names(tmp_path, []).values()) == {"Scan_nii", "scan_nii_2"} or len({*names(tmp_path, []).values()}) == 2
    assert len({name.casefold() for name in names(tmp_path, []).values()}) == 2


def test_a_name_that_is_put_together_leaves_room_for_an_ending(tmp_path):
    found = names(tmp_path, [f"{'x' * 100}/{'y' * 120}/s.nii"])
    assert list(found.values()) == [f"{'y' * 120}_s"]


def test_names_without_a_known_ending(tmp_path):
    assert [name_of(tmp_path / file) for file in ("IM0001", "1.2.840.11", "x.dcm", ".nii.gz", "a.nii.gz.nii.gz")] == [
        "IM0001",
        "1.2.840.11",
        "x",
        ".nii.gz",
        "a.nii.gz",
    ]
