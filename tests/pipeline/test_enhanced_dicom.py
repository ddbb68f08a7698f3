"""Enhanced DICOM, a volume in one file: read where highdicom puts it, too, and refused where frames make no straight volume."""

import re

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_tta.pipeline.declared_place import check_loaded_place
from monai_tta.pipeline.image_names import named_images
from monai_tta.pipeline.input_checks import check_input_file

hd = pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'monai-tta[dicom]'")

from monai_tta.pipeline import enhanced_dicom  # noqa: E402
from tests.pipeline.pydicom_series import AXIAL, OBLIQUE, SHAPE, affine, write_ct, write_enhanced_ct  # noqa: E402
from tests.pipeline.test_dicom_seg import ct_bundle, run  # noqa: E402

ALL = list(range(SHAPE[0]))


@pytest.mark.parametrize("whole", ["file", "folder"])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_it_is_read_as_highdicom_reads_it(tmp_path, orientation, whole):
    file = write_enhanced_ct(tmp_path / "scan" / "all.dcm", orientation, slope=lambda k: 2)
    given = file if whole == "file" else file.parent
    loaded = LoadImage(reader="ITKReader")(str(given))
    check_loaded_place(given, check_input_file(given), loaded)
    volume = hd.imread(file).get_volume(apply_real_world_transform=False, apply_modality_transform=True)
    volume = volume if np.allclose(volume.affine[:3, 3] * [-1, -1, 1], affine(orientation)[:3, 3]) else volume.flip_spatial(0)
    by_highdicom = np.diag([-1.0, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]]  # its axes are slice, row and column, in LPS
    assert np.allclose(by_highdicom, loaded.affine, atol=1e-4) and np.allclose(loaded.affine, affine(orientation), atol=1e-4)
    assert np.array_equal(volume.array.transpose(2, 1, 0), loaded.numpy()) and loaded.max() > 500


def test_a_mask_lies_on_it_and_a_dicom_mask_refers_to_its_frames(tmp_path):
    file = write_enhanced_ct(tmp_path / "in" / "scan" / "all.dcm", OBLIQUE)
    write_ct(tmp_path / "in" / "slices", OBLIQUE)
    bundle = ct_bundle(tmp_path / "bundle")
    run(bundle, tmp_path / "in", tmp_path / "nifti")
    run(bundle, file.parent, tmp_path / "seg", "--format", "dicom-seg")
    masks = [nib.load(tmp_path / "nifti" / f"{name}_seg.nii.gz") for name in ("scan", "slices")]
    voxels = np.asarray(masks[0].dataobj)
    assert np.array_equal(voxels, np.asarray(masks[1].dataobj)), "the same as of the same slices, a file each"
    assert np.allclose(masks[0].affine, affine(OBLIQUE), atol=1e-4)
    seg = hd.seg.segread(tmp_path / "seg" / "scan_seg.dcm")
    numbers = list(range(1, SHAPE[0] + 1))
    uid = hd.imread(file).SOPInstanceUID
    found = seg.get_pixels_by_source_frame(uid, numbers, combine_segments=True, assert_missing_frames_are_empty=True)
    assert np.array_equal(found.transpose(2, 1, 0), voxels) and voxels.any()


def _without_place(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence


def _too_few(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[4]


BAD = {
    "frames the other way round": ({"order": ALL[::-1]}, "frames of all.dcm are stored in another order than they lie"),
    "frames in no order": ({"order": [3, 1, 2, *ALL[4:]]}, "stored in another order"),
    "two time points": (
        {"order": ALL + ALL},
        "at one place and with the same pixels: frame 1 of all.dcm and frame 13 of all.dcm",
    ),
    "a missing frame": ({"order": [k for k in ALL if k != 6]}, "some are missing between frame 6 of all.dcm and frame 7"),
    "other intensities": ({"slope": lambda k: 1 + k // 6}, "frames of all.dcm differ in rescale slope"),
    "a frame without a place": ({"change": _without_place}, "the position .* is missing in frame 5 of all.dcm"),
    "fewer places than frames": ({"change": _too_few}, "holds 12 frames and says of 11 where they lie"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_straight_volume_is_refused_with_what_is_wrong(name, tmp_path):
    how, words = BAD[name]
    file = write_enhanced_ct(tmp_path / "scan" / "all.dcm", OBLIQUE, **how)
    for given in (file, file.parent):
        with pytest.raises(ValueError) as refused:
            check_input_file(given)
        assert re.search(words, str(refused.value)), refused.value


@pytest.fixture
def two_files(tmp_path):
    """Two volumes of one series in a folder, each in a file."""
    folder = tmp_path / "in" / "study"
    for number, orientation in ((1, AXIAL), (2, OBLIQUE)):
        write_enhanced_ct(folder / f"phase{number}.dcm", orientation, uid=f"1.2.3.{number}")
    return folder


def test_each_of_several_files_in_a_folder_is_a_case_called_by_its_file(two_files, tmp_path):
    found = named_images([two_files.parent], tmp_path / "out")
    assert found.names == ["study_phase1", "study_phase2"] and not found.skipped
    for image, orientation in zip(found.images, (AXIAL, OBLIQUE), strict=True):
        loaded = LoadImage(reader="ITKReader")(str(image))
        check_loaded_place(image, check_input_file(image), loaded)
        assert np.allclose(loaded.affine, affine(orientation), atol=1e-4)


def test_a_file_beside_a_series_of_slices_and_one_beside_other_images_are_cases(two_files, tmp_path):
    for file in write_ct(tmp_path / "slices").iterdir():
        file.rename(two_files / file.name)
    (two_files / "phase2.dcm").rename(tmp_path / "in" / "late.dcm")
    found = named_images([tmp_path / "in"], tmp_path / "out")
    assert sorted(found.names) == ["late", "study_3", "study_phase1"] and not found.skipped
    assert {check_input_file(image).shape for image in found.images} == {SHAPE[::-1]}


def test_a_run_writes_a_mask_of_each_file(two_files, tmp_path):
    run(ct_bundle(tmp_path / "bundle"), two_files, tmp_path / "seg", "--format", "dicom-seg")
    for number in (1, 2):
        seg = hd.seg.segread(tmp_path / "seg" / f"study_phase{number}_seg.dcm")
        uids = {uid for _, _, uid in seg.get_source_image_uids()}
        assert uids == {hd.imread(two_files / f"phase{number}.dcm").SOPInstanceUID}


def test_two_files_in_one_folder_that_nobody_split_are_refused(two_files):
    with pytest.raises(ValueError, match=r"phase1.dcm, phase2.dcm are each Enhanced DICOM, a volume by itself; give each"):
        check_input_file(two_files)


def test_a_part_of_a_volume_is_refused(tmp_path):
    def mark(dataset, total):
        dataset.ConcatenationUID = "1.2.3.4"
        dataset.InConcatenationNumber = 1
        dataset.InConcatenationTotalNumber = total

    part, whole = (write_enhanced_ct(tmp_path / f"{n}.dcm", change=lambda dataset, n=n: mark(dataset, n)) for n in (2, 1))
    with pytest.raises(ValueError, match="2.dcm is one of several files that together hold one volume"):
        check_input_file(part)
    assert check_input_file(whole) is not None


def test_a_single_frame_has_its_place(tmp_path):
    file = write_enhanced_ct(tmp_path / "one.dcm", OBLIQUE, order=[5])
    place = check_input_file(file)
    assert np.allclose(place.points[0], affine(OBLIQUE) @ [0, 0, 5, 1] @ np.eye(4)[:, :3], atol=1e-4)


def test_a_reader_that_ignores_the_places_of_frames_is_noticed(tmp_path):
    file = write_enhanced_ct(tmp_path / "all.dcm", OBLIQUE)
    loaded = LoadImage(reader="PydicomReader")(str(file))
    with pytest.raises(ValueError, match="beside where its header puts it"):
        check_loaded_place(file, check_input_file(file), loaded)


def test_without_pydicom_it_is_refused_with_what_to_install(tmp_path, monkeypatch):
    file = write_enhanced_ct(tmp_path / "all.dcm")
    monkeypatch.setattr(enhanced_dicom, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'12 frames in one DICOM file.*pip install "monai-tta\[dicom\]"'):
        check_input_file(file)
