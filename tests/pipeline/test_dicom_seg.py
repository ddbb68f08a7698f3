"""`monai-tta run --format dicom-seg`: highdicom and dciodvfy take what is written, and it is the NIfTI mask voxel for voxel."""

import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.image_segmenter import ImageSegmenter
from monai_tta.pipeline.mask_volumes import MaskVolume
from monai_tta.pipeline.records import SCHEMA_FILE
from monai_tta.pipeline.shipped_bundles import BUNDLES
from tests.attack.arena import small_bundle
from tests.attack.series import CT

hd = pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'monai-tta[dicom]'")
pydicom = pytest.importorskip("pydicom")

from monai_tta.pipeline.dicom_seg import SegSource, write_seg  # noqa: E402
from monai_tta.pipeline.mask_labels import LabelAmount  # noqa: E402
from monai_tta.pipeline.read_dicom_seg import seg_on_series, segments_in  # noqa: E402
from tests.pipeline.pydicom_series import AXIAL, OBLIQUE, SHAPE, affine, write_ct  # noqa: E402
from tests.pipeline.test_mask_formats import run  # noqa: E402

ORIENTATIONS = {"axial": AXIAL, "oblique": OBLIQUE}
NAMES = ["spleen", "right kidney", "left kidney", "liver"]
METADATA = BUNDLES / "abdomen_ct" / "configs" / "metadata.json"
SPLEEN = {
    "name": "spleen",
    "category": ["123037004", "SCT", "Anatomical Structure"],
    "type": ["78961009", "SCT", "Spleen"],
}
OVERLAPPING = (
    *CT,
    (
        "- {_target_: AsDiscreted, keys: pred, argmax: true}",
        "- {_target_: Activationsd, keys: pred, sigmoid: true}\n  - {_target_: AsDiscreted, keys: pred, threshold: 0.5}",
    ),
)


def ct_bundle(root, changes=CT, **output):
    """A small network with the abdomen bundle's transforms and names; ``output`` is laid over its metadata."""
    small_bundle(root, "abdomen_ct", changes)
    weights = torch.load(root / "models" / "model.pt", weights_only=True)
    generator = torch.Generator().manual_seed(1)
    drawn = {name: 0.3 * torch.randn(value.shape, generator=generator) for name, value in weights.items() if "adn" not in name}
    torch.save(weights | drawn, root / "models" / "model.pt")  # the same in each process, whatever was drawn before
    metadata = json.loads(METADATA.read_text(encoding="utf-8"))
    metadata["network_data_format"]["outputs"]["pred"].update(output)
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return root


def cases_of(out):
    document = json.loads((out / "records.json").read_text(encoding="utf-8"))
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))).validate(document)
    return document["cases"]


def pixels(seg, folder, segments):
    """What highdicom says each segment holds, on the series's slices as their own positions order them: (x, y, z, segments)."""
    slices = sorted((pydicom.dcmread(file) for file in folder.glob("*.dcm")), key=lambda one: one.InstanceNumber)
    uids = [one.SOPInstanceUID for one in slices]
    found = seg.get_pixels_by_source_instance(uids, segment_numbers=segments, assert_missing_frames_are_empty=True)
    return found.transpose(2, 1, 0, 3)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    for number, (name, orientation) in enumerate(ORIENTATIONS.items(), 3):
        write_ct(folder / name, orientation, number)
    return folder


@pytest.fixture(scope="module")
def made(series, tmp_path_factory):
    """The masks of one bundle as NIfTI and as DICOM Segmentations."""
    root = tmp_path_factory.mktemp("made")
    bundle = ct_bundle(root / "bundle", codes=[SPLEEN])
    run(bundle, series, root / "nifti")
    run(bundle, series, root / "seg", "--format", "dicom-seg")
    return root


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_it_is_the_nifti_mask_voxel_for_voxel(made, series, name):
    seg = hd.seg.segread(made / "seg" / f"{name}_seg.dcm")
    mask = nib.load(made / "nifti" / f"{name}_seg.nii.gz")
    voxels = np.asarray(mask.dataobj)
    assert np.allclose(mask.affine, affine(ORIENTATIONS[name]), atol=1e-5), "as the attributes of the series say"
    assert len(np.unique(voxels)) > 3, "nothing is shown by an empty mask"
    found = pixels(seg, series / name, [1, 2, 3, 4])
    assert np.array_equal(found, np.stack([voxels == value for value in (1, 2, 3, 4)], -1))
    for groups in seg.PerFrameFunctionalGroupsSequence:  # each frame lies where the slice does that it refers to
        uid = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        slice_ = next(one for one in map(pydicom.dcmread, (series / name).glob("*.dcm")) if one.SOPInstanceUID == uid)
        assert groups.PlanePositionSequence[0].ImagePositionPatient == slice_.ImagePositionPatient
    by_us = seg_on_series(made / "seg" / f"{name}_seg.dcm", series / name)
    assert np.array_equal(by_us.voxels[..., 0], voxels) and np.allclose(by_us.affine, mask.affine, atol=1e-5)


def test_it_belongs_to_the_patient_and_study_of_its_series(made, series):
    seg = hd.seg.segread(made / "seg" / "axial_seg.dcm")
    source = pydicom.dcmread(series / "axial" / "001.dcm")
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert seg[keyword].value == source[keyword].value
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID and seg.Modality == "SEG"
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(referenced.ReferencedInstanceSequence) == SHAPE[0]


def test_segments_have_the_bundles_names_and_codes(made):
    seg = hd.seg.segread(made / "seg" / "axial_seg.dcm")
    said = [seg.get_segment_description(number) for number in (1, 2, 3, 4)]
    assert [one.segment_label for one in said] == NAMES
    spleen, kidney = said[:2]
    assert "SegmentedPropertyTypeModifierCodeSequence" not in spleen.SegmentedPropertyTypeCodeSequence[0]
    assert (spleen.segmented_property_type.value, spleen.segmented_property_type.scheme_designator) == ("78961009", "SCT")
    assert spleen.segmented_property_category.meaning == "Anatomical Structure"
    assert (kidney.segmented_property_type.value, kidney.segmented_property_type.scheme_designator) == (
        "right kidney",
        "99MONAI_TTA",
    ), "no code is made up"


def test_the_same_mask_has_the_same_identifiers_and_another_one_others(made, series, tmp_path):
    run(made / "bundle", series / "axial", tmp_path / "again", "--format", "dicom-seg")
    run(made / "bundle", series / "axial", tmp_path / "other", "--format", "dicom-seg", "--method", "source")
    first, again, other = (
        pydicom.dcmread(root / "axial_seg.dcm") for root in (made / "seg", tmp_path / "again", tmp_path / "other")
    )
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (again.SOPInstanceUID, again.SeriesInstanceUID)
    assert first.SOPInstanceUID != other.SOPInstanceUID and first.SeriesInstanceUID != other.SeriesInstanceUID


def test_records_count_what_is_in_the_file(made):
    for seg, nifti in zip(cases_of(made / "seg"), cases_of(made / "nifti"), strict=True):
        assert seg["masks"] == [nifti["masks"][0].replace(".nii.gz", ".dcm")]
        assert [(one["name"], one["value"], one["voxels"]) for one in seg["labels"]] == [
            (one["name"], one["value"], one["voxels"]) for one in nifti["labels"]
        ]
        assert [one["ml"] for one in seg["labels"]] == pytest.approx([one["ml"] for one in nifti["labels"]], rel=1e-5)
        assert seg["notes"] == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_dciodvfy_finds_no_error(made, name):
    done = subprocess.run(["dciodvfy", "-new", made / "seg" / f"{name}_seg.dcm"], capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and "Error" not in done.stdout + done.stderr, done.stderr


def test_structures_that_overlap_stay_whole(series, tmp_path):
    bundle = ct_bundle(tmp_path / "bundle", OVERLAPPING, channel_def={str(k): name for k, name in enumerate(["body", *NAMES])})
    run(bundle, series / "oblique", tmp_path / "nifti")
    run(bundle, series / "oblique", tmp_path / "seg", "--format", "dicom-seg")
    voxels = np.asarray(nib.load(tmp_path / "nifti" / "oblique_seg.nii.gz").dataobj)
    assert voxels.shape == (*SHAPE[::-1], 5) and (voxels.sum(-1) > 1).any(), "some voxels are in two structures"
    seg = hd.seg.segread(tmp_path / "seg" / "oblique_seg.dcm")
    assert np.array_equal(pixels(seg, series / "oblique", [1, 2, 3, 4, 5]), voxels)
    (nifti,), (dicom,) = (cases_of(tmp_path / kind) for kind in ("nifti", "seg"))
    assert [(one["name"], one["voxels"]) for one in dicom["labels"]] == [(one["name"], one["voxels"]) for one in nifti["labels"]]


def test_an_image_that_is_no_series_is_refused_and_the_others_go_on(series, tmp_path):
    shutil.copytree(series / "axial", tmp_path / "in" / "axial")
    nib.save(nib.Nifti1Image(np.zeros((20, 22, 14), np.float32), np.diag([2.0, 2, 3, 1])), tmp_path / "in" / "b.nii.gz")
    result = run(ct_bundle(tmp_path / "bundle"), tmp_path / "in", tmp_path / "out", "--format", "dicom-seg", code=3)
    assert "failed: b.nii.gz" in result.output and "is no DICOM series" in result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["axial_seg.dcm", "records.csv", "records.json"]


def test_a_map_of_uncertainty_stays_nifti_beside_it(series, tmp_path):
    words = ("--format", "dicom-seg", "--uncertainty", "--mirrors", "0")
    run(ct_bundle(tmp_path / "bundle"), series / "axial", tmp_path / "out", *words)
    assert sorted(p.name for p in (tmp_path / "out").glob("axial*")) == ["axial_seg.dcm", "axial_uncertainty.nii.gz"]
    (case,) = cases_of(tmp_path / "out")
    assert case["masks"] == ["axial_seg.dcm"] and case["uncertainty_map"] == "axial_uncertainty.nii.gz"


def test_report_draws_it(made, series, tmp_path):
    drawn = []
    for kind in ("nifti", "seg"):
        page = tmp_path / f"{kind}.html"
        result = CliRunner().invoke(
            app, ["report", str(made / kind), "--pictures", str(series), "--out", str(page)], catch_exceptions=False
        )
        assert result.exit_code == 0 and "no picture" not in result.output, result.output
        drawn.append([part.split('"')[0] for part in page.read_text(encoding="utf-8").split("data:image/png;base64,")[1:]])
    assert len(drawn[0]) == 6 and drawn[0] == drawn[1]


LABELS = [LabelAmount("block", 1, None, None, 1, False, None)]
SOURCE = SegSource.of_metadata("bundle", {})


def block(orientation=OBLIQUE):
    voxels = np.zeros((*SHAPE[::-1], 1), np.uint8)
    voxels[5:19, 4:15, 2:7] = 1  # off the centre along each axis
    return MaskVolume(voxels, affine(orientation))


def test_a_mask_whose_axes_are_other_ones_is_brought_to_the_series(series, tmp_path):
    straight = block()
    turn = nib.orientations.axcodes2ornt(("P", "I", "R"))
    turned = nib.orientations.apply_orientation(straight.voxels, turn)
    moved = straight.affine @ nib.orientations.inv_ornt_aff(turn, straight.voxels.shape[:3])
    write_seg(tmp_path / "a.dcm", straight, LABELS, series / "oblique", SOURCE, "")
    write_seg(tmp_path / "b.dcm", MaskVolume(turned, moved), LABELS, series / "oblique", SOURCE, "")
    found = [seg_on_series(tmp_path / name, series / "oblique").voxels for name in ("a.dcm", "b.dcm")]
    assert np.array_equal(found[0], straight.voxels) and np.array_equal(found[1], straight.voxels)


@pytest.mark.parametrize("wrong", ["shifted", "half", "another series"])
def test_a_mask_on_another_grid_is_refused(series, tmp_path, wrong):
    mask = block()
    if wrong == "shifted":
        mask.affine[:3, 3] += mask.affine[:3, 0] / 4
    mask = MaskVolume(mask.voxels[:, :, ::2], mask.affine) if wrong == "half" else mask
    with pytest.raises(ValueError, match="not on the grid of the DICOM series"):
        write_seg(tmp_path / "a.dcm", mask, LABELS, series / ("axial" if wrong == "another series" else "oblique"), SOURCE, "")
    assert not (tmp_path / "a.dcm").exists()


def test_an_empty_mask_and_one_without_names(series, tmp_path):
    empty = MaskVolume(np.zeros_like(block().voxels), affine(OBLIQUE))
    with pytest.raises(ValueError, match="there is no segment to write"):
        write_seg(tmp_path / "a.dcm", empty, [], series / "oblique", SOURCE, "")
    write_seg(tmp_path / "a.dcm", empty, LABELS, series / "oblique", SOURCE, "")
    assert segments_in(tmp_path / "a.dcm")[0] == [(1, "block", 0)]
    unnamed = [LabelAmount(None, 1, None, None, 1, False, None)]
    write_seg(tmp_path / "b.dcm", block(), unnamed, series / "oblique", SOURCE, "")
    segments, size = segments_in(tmp_path / "b.dcm")
    assert segments == [(1, "label 1", 14 * 11 * 5)] and size == pytest.approx(1.5 * 2 * 3 / 1000, rel=1e-4)


def test_a_series_without_a_frame_of_reference_is_refused(tmp_path):
    write_ct(tmp_path / "scan", OBLIQUE, without=("FrameOfReferenceUID",))
    with pytest.raises(ValueError, match="FrameOfReferenceUID is missing in "):
        write_seg(tmp_path / "a.dcm", block(), LABELS, tmp_path / "scan", SOURCE, "")


def test_an_empty_identifier_of_any_slice_is_noticed_before_the_network_answers(tmp_path, monkeypatch):
    write_ct(tmp_path / "scan", OBLIQUE)
    slice_ = pydicom.dcmread(tmp_path / "scan" / "007.dcm")
    slice_.StudyInstanceUID = ""
    slice_.save_as(tmp_path / "scan" / "007.dcm")
    monkeypatch.setattr(ImageSegmenter, "_answer", lambda *given: pytest.fail("the network was asked"))
    said = run(ct_bundle(tmp_path / "bundle"), tmp_path / "scan", tmp_path / "out", "--format", "dicom-seg", code=3)
    assert "StudyInstanceUID is empty in 007.dcm" in " ".join(said.output.split())
    assert "StudyInstanceUID is empty" in cases_of(tmp_path / "out")[0]["error"]


def test_a_series_without_a_patients_data_is_written(tmp_path):
    nobody = (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    )
    write_ct(tmp_path / "scan", OBLIQUE, without=nobody)
    write_seg(tmp_path / "a.dcm", block(), LABELS, tmp_path / "scan", SOURCE, "")
    assert np.array_equal(seg_on_series(tmp_path / "a.dcm", tmp_path / "scan").voxels, block().voxels)


@pytest.mark.parametrize("name", ["abdomen_ct", "hippocampus_mri"])
def test_the_codes_of_shipped_bundles_are_those_of_the_standard(name):
    from pydicom.sr.codedict import codes

    metadata = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text(encoding="utf-8"))
    labels = list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values())[1:]
    found = SegSource.of_metadata(name, metadata).codes
    assert list(found.by_name) == labels
    for number, label in enumerate(labels, 1):
        said = found.describe(number, LabelAmount(label, number, None, None, 1, False, 1.0), name, "1")
        assert said.segmented_property_category == codes.cid7150.AnatomicalStructure
        words = [said.segmented_property_type.meaning]
        assert said.segmented_property_type == getattr(codes.SCT, words[0])
        for modifier in said.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence", []):
            words.insert(0, modifier.CodeMeaning)
            assert modifier.CodeValue == getattr(codes.SCT, words[0]).value
        assert " ".join(words).lower() == label


def test_codes_of_another_form_are_refused():
    wrong = {"network_data_format": {"outputs": {"pred": {"codes": [{"name": "spleen", "type": "78961009"}]}}}}
    with pytest.raises(ValueError, match="value, scheme and meaning"):
        SegSource.of_metadata("bundle", wrong)
