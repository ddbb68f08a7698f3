"""`monai-tta run --uncertainty`: a map beside each mask, where the mask is, and none without a word."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from jsonschema import Draft202012Validator
from monai.bundle import ConfigParser
from PIL import Image
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer, Source, Views
from monai_tta.cli.app import app
from monai_tta.cli.uncertainty_options import UncertaintyOptions, views_for_maps
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.records import SCHEMA_FILE
from monai_tta.pipeline.shipped_bundles import BUNDLES

HIPPOCAMPUS = BUNDLES / "hippocampus_mri"
MAPS = ["a_uncertainty.nii.gz", "b_uncertainty.nii.gz"]


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def run(bundle, images, out, *words, code=0):
    method = [] if "--method" in words else ["--method", "source"]
    result = invoke("run", bundle, images, "--out", out, "--device", "cpu", "--no-check", *method, *words)
    assert result.exit_code == code, result.output
    return result


def records_of(out):
    document = json.loads((out / "records.json").read_text(encoding="utf-8"))
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))).validate(document)
    return document["cases"]


def voxels(file):
    return np.asarray(nib.load(file).dataobj)


def phantom(seed=0):
    """A bright blob in noise, off the centre in each axis."""
    image = np.random.default_rng(seed).normal(0, 0.3, (34, 38, 36)).astype(np.float32)
    image[8:16, 14:30, 16:24] += 2
    return image


@pytest.fixture
def scans(tmp_path):
    """One anatomy twice: with its axes as the network wants them, and in another order, mirrored, turned and 2 mm thick."""
    folder = tmp_path / "scans"
    folder.mkdir()
    straight = nib.Nifti1Image(phantom(), np.array([[1.0, 0, 0, -5], [0, 1, 0, 3], [0, 0, 1, 7], [0, 0, 0, 1]]))
    nib.save(straight, folder / "a.nii.gz")
    order = nib.orientations.axcodes2ornt(("P", "S", "L"))
    turned = straight.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(straight.affine), order))
    nib.save(turned, folder / "b.nii.gz")
    return folder


def test_the_map_lies_where_the_image_lies_and_no_mask_changes(scans, tmp_path):
    run(HIPPOCAMPUS, scans, tmp_path / "plain")
    run(HIPPOCAMPUS, scans, tmp_path / "out", "--uncertainty")
    for name in "ab":
        image, found = (
            nib.load(folder / f"{name}{end}.nii.gz") for folder, end in ((scans, ""), (tmp_path / "out", "_uncertainty"))
        )
        assert found.shape == image.shape and np.allclose(found.affine, image.affine) and found.get_data_dtype() == np.float32
        assert (voxels(tmp_path / "plain" / f"{name}_seg.nii.gz") == voxels(tmp_path / "out" / f"{name}_seg.nii.gz")).all()
    assert sorted(p.name for p in (tmp_path / "plain").iterdir() if "uncertainty" in p.name) == []
    a, b = (nib.load(tmp_path / "out" / f"{name}_uncertainty.nii.gz") for name in "ab")
    assert np.allclose(a.get_fdata(), nib.as_closest_canonical(b).get_fdata(), atol=1e-5), "it follows the image's axes"
    cases = records_of(tmp_path / "out")
    assert [case["uncertainty_map"] for case in cases] == MAPS
    assert [case["masks"] for case in cases] == [["a_seg.nii.gz"], ["b_seg.nii.gz"]], "labels are counted in masks alone"
    assert all(case["labels"] and case["labels_note"] is None for case in cases)
    assert cases[0]["uncertainty"] == {"largest": pytest.approx(np.log(3)), "n_answers": 2}
    assert 0 <= a.get_fdata().min() and 1e-4 < a.get_fdata().max() <= np.log(2) + 1e-4, "two answers tell one bit apart"


def test_it_is_the_inferers_map_brought_back(scans, tmp_path):
    run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out", "--uncertainty")
    bundle = load_bundle(HIPPOCAMPUS, device="cpu")
    preprocessing, _ = bundle.transforms(tmp_path / "elsewhere")
    inferer = AdaptiveInferer(
        method=Source(), inferer=bundle.inferer, head="softmax", uncertainty=Views(mirrors="all", axes=(0,))
    )
    with torch.no_grad():
        inferer(preprocessing({"image": str(scans / "a.nii.gz")})["image"][None], bundle.network)
    (found,) = inferer.uncertainty_maps
    assert np.allclose(voxels(tmp_path / "out" / "a_uncertainty.nii.gz"), found[0].numpy(), atol=1e-5), "the image is at 1 mm"


def test_beside_a_photographs_mask_it_is_a_grey_picture_of_its_size(tmp_path):
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 255, (150, 210, 3)).astype(np.uint8)
    photograph[40:44, 20:150] = 20
    (tmp_path / "in").mkdir()
    Image.fromarray(photograph).save(tmp_path / "in" / "eye.png")
    run(BUNDLES / "vessel_fundus", tmp_path / "in", tmp_path / "out", "--uncertainty", "--mirrors", "0,1")
    with Image.open(tmp_path / "out" / "eye_uncertainty.png") as picture, Image.open(tmp_path / "out" / "eye_seg.png") as mask:
        assert picture.mode in ("I;16", "I") and picture.size == mask.size == (210, 150)
        grey = np.asarray(picture).astype(float)
    (case,) = records_of(tmp_path / "out")
    assert case["uncertainty_map"] == "eye_uncertainty.png" and case["uncertainty"]["n_answers"] == 4
    bundle = load_bundle(BUNDLES / "vessel_fundus", device="cpu")
    views = Views(mirrors="all", axes=(0, 1), turns=False)
    inferer = AdaptiveInferer(method=Source(), inferer=bundle.inferer, head="sigmoid", uncertainty=views)
    with torch.no_grad():
        inferer(torch.from_numpy(photograph).permute(2, 1, 0)[None].float() / 255, bundle.network)
    found = inferer.uncertainty_maps[0][0].numpy().T / case["uncertainty"]["largest"]
    assert found.max() > 0.01 and np.abs(grey / 65535 - found).max() < 1e-4


class TestResume:
    def stop_after(self, n, monkeypatch):
        answered, real = [], AdaptiveInferer.__call__

        def stop(self, *args, **kwargs):
            answered.append(1)
            if len(answered) > n:
                raise KeyboardInterrupt
            return real(self, *args, **kwargs)

        monkeypatch.setattr(AdaptiveInferer, "__call__", stop)
        return answered, real

    def test_a_map_that_is_lost_counts_like_a_mask_that_is_lost(self, scans, tmp_path, monkeypatch):
        with monkeypatch.context() as patched:
            self.stop_after(1, patched)
            run(HIPPOCAMPUS, scans, tmp_path / "out", "--uncertainty", code=130)
        assert (tmp_path / "out" / "a_uncertainty.nii.gz").is_file()
        assert records_of(tmp_path / "out")[0]["uncertainty_map"] == "a_uncertainty.nii.gz"
        refused = run(HIPPOCAMPUS, scans, tmp_path / "out", code=2)
        assert "another uncertainty" in refused.output, "a run without maps is another run"
        with monkeypatch.context() as patched:
            answered, _ = self.stop_after(9, patched)
            (tmp_path / "out" / "a_uncertainty.nii.gz").unlink()
            run(HIPPOCAMPUS, scans, tmp_path / "out", "--uncertainty")
        assert len(answered) == 2
        assert [case["uncertainty_map"] for case in records_of(tmp_path / "out")] == [
            "a_uncertainty.nii.gz",
            "b_uncertainty.nii.gz",
        ]
        assert (tmp_path / "out" / "a_uncertainty.nii.gz").is_file()

    def test_what_is_done_is_not_done_again_and_keeps_its_map_on_record(self, scans, tmp_path, monkeypatch):
        with monkeypatch.context() as patched:
            self.stop_after(1, patched)
            run(HIPPOCAMPUS, scans, tmp_path / "out", "--uncertainty", code=130)
        with monkeypatch.context() as patched:
            answered, _ = self.stop_after(9, patched)
            run(HIPPOCAMPUS, scans, tmp_path / "out", "--uncertainty")
        assert len(answered) == 1
        assert [case["uncertainty_map"] for case in records_of(tmp_path / "out")] == [
            "a_uncertainty.nii.gz",
            "b_uncertainty.nii.gz",
        ]


def test_a_map_of_an_earlier_run_does_not_pass_for_a_new_masks(scans, tmp_path):
    run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out", "--uncertainty")
    result = run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out")
    (case,) = records_of(tmp_path / "out")
    assert case["uncertainty_map"] is None and "earlier run's" in case["notes"][0] and "earlier run's" in result.output


def test_no_map_replaces_an_image(scans, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    nib.save(nib.Nifti1Image(phantom(), np.eye(4)), out / "a_uncertainty.nii.gz")
    before = (out / "a_uncertainty.nii.gz").read_bytes()
    result = invoke(
        *("run", HIPPOCAMPUS, scans / "a.nii.gz", out / "a_uncertainty.nii.gz", "--out", out, "--device", "cpu", "--no-check"),
        *("--method", "source", "--uncertainty"),
    )
    assert result.exit_code in (2, 3) and (out / "a_uncertainty.nii.gz").read_bytes() == before


def test_anonymous_records_do_not_name_it(scans, tmp_path):
    run(HIPPOCAMPUS, scans / "a.nii.gz", tmp_path / "out", "--uncertainty", "--anonymous")
    (case,) = records_of(tmp_path / "out")
    assert "uncertainty_map" not in case and case["uncertainty"]["n_answers"] == 2
    assert (tmp_path / "out" / "a_uncertainty.nii.gz").is_file()


def save_as_mha(root):
    """Let a bundle write MetaImage masks."""
    file = root / "configs" / "inference.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace("output_postfix: seg,", "output_postfix: seg, output_ext: .mha, writer: ITKWriter,"), encoding="utf-8"
    )


def test_a_mask_of_another_kind_of_file_has_a_nifti_beside_it_on_its_grid(bundle_copy, scans, tmp_path):
    save_as_mha(bundle_copy)
    run(bundle_copy, scans / "b.nii.gz", tmp_path / "out", "--uncertainty")
    mask = sitk.ReadImage(str(tmp_path / "out" / "b_seg.mha"))
    found = sitk.ReadImage(str(tmp_path / "out" / "b_uncertainty.nii.gz"))
    assert mask.GetSize() == found.GetSize() and np.allclose(mask.GetOrigin(), found.GetOrigin(), atol=1e-3)
    assert np.allclose(mask.GetDirection(), found.GetDirection(), atol=1e-5)


class TestRefused:
    @pytest.mark.parametrize(
        "words, said",
        [
            (["--mirrors", "0"], "give --uncertainty, too"),
            (["--uncertainty", "--mirrors", "0,0"], "found 0,0"),
            (["--uncertainty", "--mirrors", "left"], "found left"),
            (["--uncertainty", "--learn", "window"], "--learn window"),
            (["--uncertainty", "--prompts", "prompts.json"], "prompts would have to be moved"),
        ],
    )
    def test_before_anything_is_computed(self, words, said, scans, tmp_path):
        result = run(HIPPOCAMPUS, scans, tmp_path / "out", *words, code=2)
        assert said in result.output and not (tmp_path / "out").exists()

    def test_an_nnunet(self, tmp_path, monkeypatch):
        monkeypatch.setattr("monai_tta.cli.run_checks.find_bundle", lambda *_, **__: tmp_path)
        monkeypatch.setattr("monai_tta.cli.run_checks.is_nnunet_folder", lambda _: True)
        result = run(tmp_path, tmp_path, tmp_path / "out", "--uncertainty", code=2)
        assert "--uncertainty is not there for folders of nnU-Net" in result.output

    def test_mirrors_that_nobody_names_or_that_there_are_none_of(self, tmp_path):
        with pytest.raises(ValueError, match="say it by --mirrors"):
            views_for_maps(BUNDLES / "vessel_fundus", UncertaintyOptions(True))
        with pytest.raises(ValueError, match="say it by --mirrors"):
            views_for_maps(tmp_path, UncertaintyOptions(True))
        with pytest.raises(ValueError, match="trained without any"):
            views_for_maps(BUNDLES / "abdomen_ct", UncertaintyOptions(True))
        assert views_for_maps(BUNDLES / "abdomen_ct", UncertaintyOptions()) is None
        assert views_for_maps(HIPPOCAMPUS, UncertaintyOptions(True)) == Views(mirrors="all", turns=False, axes=(0,))
        assert views_for_maps(HIPPOCAMPUS, UncertaintyOptions(True, "1,2")).axes == (1, 2)

    def test_a_map_that_cannot_be_made_is_said_and_the_mask_is_there(self, bundle_copy, scans, tmp_path):
        """A step of the bundle's own moves the mask, and the map cannot follow."""
        file = bundle_copy / "configs" / "inference.yaml"
        parser = ConfigParser.load_config_file(str(file))
        parser["postprocessing"]["transforms"].insert(2, {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[:, 2:]"})
        ConfigParser.export_config_file(parser, str(file), fmt="yaml")
        result = run(bundle_copy, scans / "a.nii.gz", tmp_path / "out", "--uncertainty", code=3)
        assert "a.nii.gz: no map of its uncertainty" in result.output and "does not lie on the mask's grid" in result.output
        (case,) = records_of(tmp_path / "out")
        assert case["uncertainty_map"] is None and case["uncertainty"] is None and "grid" in case["uncertainty_note"]
        assert case["status"] == "unadapted" and sorted(Path(tmp_path / "out").glob("a_*")) == [tmp_path / "out" / "a_seg.nii.gz"]

    def test_axes_that_the_image_does_not_have(self, tmp_path):
        Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(tmp_path / "eye.png")
        result = run(
            BUNDLES / "vessel_fundus", tmp_path / "eye.png", tmp_path / "out", "--uncertainty", "--mirrors", "0,2", code=3
        )
        assert "axes=(0, 2) of views do not fit" in result.output and (tmp_path / "out" / "eye_seg.png").is_file()
