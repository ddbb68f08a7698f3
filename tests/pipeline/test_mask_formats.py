"""`monai-tta run --format`: NRRD and MetaImage on the image's own grid, and what the rest of a run makes of new endings."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline import image_segmenter, mask_formats
from monai_tta.pipeline.beside_masks import BesideMasks
from monai_tta.pipeline.mask_formats import OLDER_FORMAT
from monai_tta.pipeline.mask_volumes import MaskVolume, read_volume, write_volume
from tests.attack.arena import PHOTOGRAPHS, small_bundle

COSINE, SINE = 0.955336, 0.29552
ROTATION = np.array([[COSINE, -SINE, 0], [SINE * COSINE, COSINE * COSINE, -SINE], [SINE * SINE, COSINE * SINE, COSINE]])
GRIDS = {
    "straight": np.diag([2.0, 1.5, 3.0]),
    "left_handed": np.diag([-2.0, 1.5, 3.0]),
    "oblique": ROTATION @ np.diag([2.0, 1.5, 3.0]),
    "oblique_left_handed": ROTATION @ np.diag([2.0, 1.5, -3.0])[:, [2, 0, 1]],
}


def run(bundle, images, out, *words, code=0):
    command = ["run", bundle, images, "--out", out, "--method", "statistics", "--device", "cpu", "--no-check", *words]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == code, result.output
    return result


def document_of(out):
    return json.loads((out / "records.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One image on each grid."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, (name, axes) in enumerate(GRIDS.items()):
        affine = nib.affines.from_matvec(axes, [-20.0, 31.5, 7.25])
        voxels = np.random.default_rng(seed).normal(0, 0.3, (12, 14, 10)).astype(np.float32)
        voxels[4:9, 5:11, 3:7] += 2
        image = nib.Nifti1Image(voxels, affine)
        image.set_qform(affine, 1)
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def nifti(bundle, scans, tmp_path_factory):
    """The masks as the bundle writes them."""
    out = tmp_path_factory.mktemp("nifti") / "out"
    run(bundle, scans, out, "--uncertainty", "--mirrors", "0")
    return out


def points(image):
    """Where ITK puts each voxel, in RAS, and what it holds: a row each, in the order of nibabel's array."""
    values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    indices = np.stack(np.meshgrid(*map(range, values.shape), indexing="ij"), -1).reshape(-1, 3)
    places = np.array([image.TransformIndexToPhysicalPoint(index) for index in indices.tolist()])
    return places * [-1, -1, 1], values.reshape(-1)


@pytest.mark.parametrize("wanted", ["nrrd", "mha"])
def test_masks_and_maps_lie_where_nibabel_puts_the_nifti_ones(bundle, scans, nifti, tmp_path, wanted):
    run(bundle, scans, tmp_path, "--uncertainty", "--mirrors", "0", "--format", wanted)
    kinds = ("seg", "uncertainty")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [f"{name}_{kind}.{wanted}" for name in GRIDS for kind in kinds] + ["records.csv", "records.json"]
    )
    for name in GRIDS:
        for kind in kinds:
            expected = nib.load(nifti / f"{name}_{kind}.nii.gz")
            found, values = points(sitk.ReadImage(str(tmp_path / f"{name}_{kind}.{wanted}")))
            indices = np.stack(np.meshgrid(*map(range, expected.shape), indexing="ij"), -1).reshape(-1, 3)
            places = nib.affines.apply_affine(expected.affine, indices)
            assert np.allclose(found, places, atol=1e-4) and np.array_equal(values, np.asarray(expected.dataobj).reshape(-1))
            assert len(np.unique(values)) > 1 and values.dtype == expected.get_data_dtype()
        image = nib.load(scans / f"{name}.nii.gz")
        assert np.allclose(nib.load(nifti / f"{name}_seg.nii.gz").affine, image.affine, atol=1e-4), "the image's own grid"


def test_records_know_the_new_names_and_count_the_same(bundle, scans, nifti, tmp_path):
    run(bundle, scans, tmp_path, "--uncertainty", "--mirrors", "0", "--format", "nrrd")
    document, before = document_of(tmp_path), document_of(nifti)
    assert document["run"]["settings"]["format"] == "nrrd" and before["run"]["settings"]["format"] is None
    assert document["run"]["command"].endswith("--format nrrd") and "--format" not in before["run"]["command"]
    for case, other in zip(document["cases"], before["cases"], strict=True):
        assert case["masks"] == [f"{case['name']}_seg.nrrd"] and case["uncertainty_map"] == f"{case['name']}_uncertainty.nrrd"
        for one, two in zip(case["labels"], other["labels"], strict=True):
            assert one == two | {"ml": pytest.approx(two["ml"], rel=1e-6)} and one["voxels"]


def test_report_draws_them(bundle, scans, tmp_path):
    one = scans / "oblique_left_handed.nii.gz"
    run(bundle, one, tmp_path / "out", "--format", "mha")
    run(bundle, one, tmp_path / "nifti")
    pages = []
    for out in (tmp_path / "out", tmp_path / "nifti"):
        words = ["report", out, "--pictures", one, "--out", tmp_path / "page.html"]
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0 and "no picture" not in result.output, result.output
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        pages.append([part.split('"')[0] for part in page.split("data:image/png;base64,")[1:]])
    assert len(pages[0]) == 3 and pages[0] == pages[1]


def test_a_stopped_run_resumes_with_its_format_alone(bundle, scans, tmp_path, monkeypatch):
    convert = image_segmenter.MaskConverter.convert
    done = []

    def stop(self, folder, image, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(image)
        return convert(self, folder, image, *rest)

    monkeypatch.setattr(image_segmenter.MaskConverter, "convert", stop)
    run(bundle, scans, tmp_path, "--format", "nrrd", code=130)
    assert sorted(p.suffix for p in tmp_path.glob("*_seg.*")) == [".nrrd"] * 2
    monkeypatch.setattr(image_segmenter.MaskConverter, "convert", convert)
    refused = run(bundle, scans, tmp_path, "--format", "mha", code=2)
    assert "another format" in refused.output and not list(tmp_path.glob("*.mha"))
    refused = run(bundle, scans, tmp_path, code=2)
    assert "another format" in refused.output
    resumed = run(bundle, scans, tmp_path, "--format", "nrrd")
    assert "2 of them before this run was stopped" in resumed.output
    assert len(list(tmp_path.glob("*_seg.nrrd"))) == 4 and document_of(tmp_path)["run"]["adapted"] == 4


def test_restart_in_another_format_says_that_older_masks_lie_there(bundle, scans, tmp_path):
    run(bundle, scans / "oblique.nii.gz", tmp_path)
    (case,) = document_of(tmp_path)["cases"]
    assert case["notes"] == []
    result = run(bundle, scans / "oblique.nii.gz", tmp_path, "--format", "nrrd", "--restart")
    (case,) = document_of(tmp_path)["cases"]
    assert case["notes"] == [OLDER_FORMAT] and OLDER_FORMAT in result.output
    assert case["masks"] == ["oblique_seg.nrrd"] and (tmp_path / "oblique_seg.nii.gz").exists(), "nothing is deleted"
    (tmp_path / "oblique_seg.nii.gz").unlink()
    run(bundle, scans / "oblique.nii.gz", tmp_path, "--format", "nrrd")
    assert document_of(tmp_path)["cases"][0]["notes"] == []


def test_shards_write_the_format(bundle, scans, tmp_path):
    for shard in ("1/2", "2/2"):
        run(bundle, scans, tmp_path / "shards", "--format", "nrrd", "--shard", shard)
    run(bundle, scans, tmp_path / "whole", "--format", "nrrd")
    names = [f"{name}_seg.nrrd" for name in GRIDS]
    assert sorted(p.name for p in (tmp_path / "shards").glob("*_seg.*")) == sorted(names)
    assert sorted(case["masks"] for case in document_of(tmp_path / "shards")["cases"]) == [[name] for name in sorted(names)]
    for name in names:
        assert np.array_equal(read_volume(tmp_path / "shards" / name).voxels, read_volume(tmp_path / "whole" / name).voxels)


def test_a_mask_that_an_earlier_run_left_is_named_whatever_its_ending(bundle, scans, tmp_path):
    run(bundle, scans / "oblique.nii.gz", tmp_path / "out", "--format", "nrrd")
    (tmp_path / "oblique.nii.gz").write_bytes(b"no image")
    result = run(bundle, tmp_path / "oblique.nii.gz", tmp_path / "out", "--format", "nrrd", code=3)
    assert "the mask of an earlier run is still there: oblique_seg.nrrd" in result.output


def test_a_photograph_is_refused_before_the_network_answers(tmp_path):
    bundle = small_bundle(tmp_path / "bundle", "vessel_fundus", PHOTOGRAPHS)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = run(bundle, tmp_path / "a.png", tmp_path / "out", "--format", "nrrd", code=3)
    assert "a.png is a picture, and --format nrrd is for volumes" in result.output
    assert not list((tmp_path / "out").glob("a*"))


@pytest.mark.parametrize("words, said", [("jpeg", "--format is one of nrrd, mha, dicom-seg; found 'jpeg'")])
def test_a_format_that_there_is_not(bundle, scans, tmp_path, words, said):
    assert said in run(bundle, scans, tmp_path, "--format", words, code=2).output


def test_dicom_without_its_package_names_what_to_install(bundle, scans, tmp_path, monkeypatch):
    monkeypatch.setattr(mask_formats, "find_spec", lambda name: None)
    result = run(bundle, scans, tmp_path / "out", "--format", "dicom-seg", code=2)
    assert 'pip install "monai-tta[dicom]"' in result.output and not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_channels_of_a_mask_are_the_components_of_a_voxel(tmp_path, ending):
    voxels = np.random.default_rng(0).integers(0, 2, (5, 6, 7, 3), dtype=np.uint8)
    volume = MaskVolume(voxels, nib.affines.from_matvec(GRIDS["oblique_left_handed"], [1.0, 2, 3]))
    write_volume(volume, tmp_path / f"a{ending}")
    back = read_volume(tmp_path / f"a{ending}")
    assert np.array_equal(back.voxels, voxels) and np.allclose(back.affine, volume.affine, atol=1e-9)
    assert back.size == pytest.approx(2 * 1.5 * 3 / 1000, rel=1e-4)


def test_two_masks_that_would_have_one_name_are_refused(tmp_path):
    from monai_tta.pipeline.convert_masks import MaskConverter

    voxels = np.ones((4, 4, 4), np.uint8)
    for name in ("a_seg.nii", "a_seg.nii.gz"):
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / name)
    with pytest.raises(FileExistsError, match="two masks of this bundle would both be a_seg.nrrd"):
        MaskConverter.of_bundle("nrrd", tmp_path, {}).convert(tmp_path, tmp_path / "a.nii.gz", None, BesideMasks())
