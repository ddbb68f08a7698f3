"""Volumes of labels: what nibabel and SimpleITK say of the same file, and names only where the mask's coding is certain."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import SaveImage
from PIL import Image

from monai_tta.pipeline.mask_labels import LabelNames, UnknownLabels, amounts_in, has_spacing, read_mask

LIVER = LabelNames({0: "background", 1: "liver", 2: "spleen"})
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]]) @ np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = TURN @ np.diag([0.7, -1.3, 3.1])
OBLIQUE[:3, 3] = [17, -40, 250]


def label_map(shape=(12, 9, 7), dtype=np.uint8):
    """35 voxels of label 1, 12 of label 2."""
    voxels = np.zeros(shape, dtype)
    voxels[1:6, 2:9, 3] = 1
    voxels[8:10, 1:7, 5] = 2
    return voxels


def saved(path, voxels, affine=OBLIQUE):
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def amounts(path, names=LIVER, head="softmax", image=None):
    return [amount.on_record() for amount in amounts_in([path], image or path, names, head)]


class TestVolume:
    def test_an_oblique_anisotropic_mask_has_the_volume_that_nibabel_and_simpleitk_give(self, tmp_path):
        file = saved(tmp_path / "a.nii.gz", label_map())
        liver, spleen = amounts(file)
        by_nibabel = float(abs(np.linalg.det(nib.load(file).affine[:3, :3]))) / 1000
        image = sitk.ReadImage(str(file))
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.Execute(image)
        for label, found, count in ((1, liver, 35), (2, spleen, 12)):
            assert found["voxels"] == count == statistics.GetNumberOfPixels(label)
            assert found["ml"] == pytest.approx(count * by_nibabel, rel=1e-6)
            assert found["ml"] == pytest.approx(statistics.GetPhysicalSize(label) / 1000, rel=1e-5)
        assert liver["ml"] == pytest.approx(35 * 0.7 * 1.3 * 3.1 / 1000, rel=1e-6), "and what the spacing says"

    def test_a_sheared_affine_is_a_parallelepiped(self, tmp_path):
        sheared = np.diag([2.0, 2, 5, 1])
        sheared[0, 2] = 1.5  # a tilted gantry: the product of the axes' lengths would be 4 % too much
        liver, _ = amounts(saved(tmp_path / "a.nii", label_map(), sheared))
        assert liver["ml"] == pytest.approx(35 * 20 / 1000)

    def test_a_header_in_micrometres_or_metres_is_converted_as_itk_does(self, tmp_path):
        for unit, factor in (("micron", 1e-9), ("meter", 1e9), ("mm", 1), ("unknown", 1)):
            image = nib.Nifti1Image(label_map(), np.diag([2.0, 3, 4, 1]))
            image.header.set_xyzt_units(unit)
            nib.save(image, tmp_path / "a.nii")
            assert amounts(tmp_path / "a.nii")[0]["ml"] == pytest.approx(35 * 24 * factor / 1000)
            spacing = sitk.ReadImage(str(tmp_path / "a.nii")).GetSpacing()
            assert np.prod(spacing) == pytest.approx(24 * factor, rel=1e-4)

    @pytest.mark.parametrize("ending", [".mha", ".nrrd"])
    def test_files_of_itk_give_the_same(self, ending, tmp_path):
        by_nifti = amounts(saved(tmp_path / "a.nii", label_map()))
        image = sitk.ReadImage(str(tmp_path / "a.nii"))
        sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
        for own, theirs in zip(amounts(tmp_path / f"a{ending}"), by_nifti, strict=True):
            assert own["voxels"] == theirs["voxels"] and own["ml"] == pytest.approx(theirs["ml"], rel=1e-5)

    def test_many_voxels_are_counted_in_parts(self, tmp_path, monkeypatch):
        monkeypatch.setattr("monai_tta.pipeline.mask_labels._CHUNK", 10)
        assert [found["voxels"] for found in amounts(saved(tmp_path / "a.nii", label_map(dtype=np.int16)))] == [35, 12]

    def test_a_label_that_is_not_there_has_no_volume(self, tmp_path):
        assert [found["ml"] for found in amounts(saved(tmp_path / "a.nii", label_map() * 0))] == [0, 0]


class TestFlat:
    def test_a_picture_has_pixels_and_no_area(self, tmp_path):
        Image.fromarray(label_map((12, 9, 7))[..., 3] * 255).save(tmp_path / "a.png")
        (found,) = amounts(tmp_path / "a.png", LabelNames({0: "vessel"}), "sigmoid")
        assert found == {"name": "vessel", "pixels": 35, "mm2": None}

    def test_a_flat_nifti_mask_has_an_area_unless_it_was_made_of_a_picture(self, tmp_path):
        file = saved(tmp_path / "a.nii.gz", label_map()[..., 3])
        assert amounts(file)[0]["mm2"] == pytest.approx(35 * 0.7 * 1.3)
        Image.new("L", (9, 12)).save(tmp_path / "photo.jpg")
        assert amounts(file, image=tmp_path / "photo.jpg")[0] == {"name": "liver", "value": 1, "pixels": 35, "mm2": None}

    def test_a_radiograph_without_pixel_spacing_has_no_area(self, tmp_path):
        image = sitk.GetImageFromArray(np.zeros((1, 9, 12), np.uint16))
        for tag, value in {"0008|0060": "CR", "0008|0016": "1.2.840.10008.5.1.4.1.1.1"}.items():
            image.SetMetaData(tag, value)
        for name, spacing in (("ones", 1), ("fifths", 0.2)):
            image.SetSpacing((spacing, spacing, 1))
            (tmp_path / name).mkdir()
            sitk.WriteImage(image, str(tmp_path / name / "a.dcm"))
            assert has_spacing(tmp_path / name) and has_spacing(tmp_path / name / "a.dcm"), "the file states it"
        content = (tmp_path / "ones" / "a.dcm").read_bytes()
        start = content.index(b"\x18\x00\x64\x11")  # the imager's pixel spacing
        end = start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        (tmp_path / "ones" / "a.dcm").write_bytes(content[:start] + content[end:])
        assert not has_spacing(tmp_path / "ones") and not has_spacing(tmp_path / "ones" / "a.dcm")


class TestNames:
    def test_a_channel_for_each_structure(self, tmp_path):
        """As BraTS' bundle writes them: regions that overlap."""
        regions = np.stack([label_map() > 0, label_map() == 1, label_map() == 2]).astype(np.float32)
        SaveImage(tmp_path, output_postfix="", output_dtype=np.uint8, resample=False, separate_folder=False, print_log=False)(
            regions, {"filename_or_obj": "a.nii.gz", "affine": OBLIQUE}
        )
        found = amounts(tmp_path / "a.nii.gz", LabelNames({0: "whole", 1: "core", 2: "enhancing"}), "sigmoid")
        assert [(f["name"], f["channel"], f["voxels"]) for f in found] == [
            ("whole", 0, 47),
            ("core", 1, 35),
            ("enhancing", 2, 12),
        ]
        assert found[0]["ml"] == pytest.approx(47 * 0.7 * 1.3 * 3.1 / 1000, rel=1e-6)
        other = amounts(tmp_path / "a.nii.gz", LabelNames({0: "whole", 1: "core"}), "sigmoid")
        assert {f["name"] for f in other} == {None}, "the bundle names two of three channels: which is not certain"

    def test_one_hot_masks_do_not_count_the_background(self, tmp_path):
        hot = np.stack([label_map() == k for k in range(3)], -1).astype(np.uint8)
        found = amounts(saved(tmp_path / "a.nii", hot))
        assert [(f["name"], f["voxels"]) for f in found] == [("liver", 35), ("spleen", 12)]

    def test_values_that_the_bundle_does_not_know_get_no_name_and_neither_do_the_others(self, tmp_path):
        """Numbered objects, or codes of the bundle's own: a wrong name is worse than none."""
        found = amounts(saved(tmp_path / "a.nii", label_map() * 5))
        assert [(f["name"], f["value"], f["voxels"]) for f in found] == [(None, 5, 35), (None, 10, 12)]

    def test_sigmoid_channels_in_one_map_get_no_names(self, tmp_path):
        assert {f["name"] for f in amounts(saved(tmp_path / "a.nii", label_map()), LIVER, "sigmoid")} == {None}

    def test_the_one_structure_may_have_any_value(self, tmp_path):
        file = saved(tmp_path / "a.nii", (label_map() == 1).astype(np.uint8) * 255)
        for names, head in ((LabelNames({0: "background", 1: "lung"}), "softmax"), (LabelNames({0: "lung"}), "sigmoid")):
            assert [(f["name"], f["voxels"]) for f in amounts(file, names, head)] == [("lung", 35)]

    def test_codes_that_the_bundle_explains(self, tmp_path):
        """The disc and cup bundle writes 255 for background and 0 for the cup."""
        codes = LabelNames({0: "disc", 1: "cup"}, {0: "cup", 128: "rim", 255: "background"})
        voxels = np.full((12, 9), 255, np.uint8)
        voxels[2:5, 2:6], voxels[3, 3:5] = 128, 0
        Image.fromarray(voxels).save(tmp_path / "a.png")
        found = amounts(tmp_path / "a.png", codes, "sigmoid")
        assert [(f["name"], f["value"], f["pixels"]) for f in found] == [("cup", 0, 2), ("rim", 128, 10)]

    def test_a_file_for_each_structure(self, tmp_path):
        masks = [saved(tmp_path / f"{name}.nii.gz", label_map() * (k + 1) // (k + 1)) for k, name in enumerate(("Eye_L", "x"))]
        found = [a.on_record() for a in amounts_in(masks, masks[0], LabelNames({0: "Eye_L", 1: "Eye_R"}), "sigmoid")]
        assert [(f["name"], f["file"], f["voxels"]) for f in found[:1]] == [("Eye_L", "Eye_L.nii.gz", 47)]
        assert {f["name"] for f in found[1:]} == {None}

    @pytest.mark.parametrize(
        "metadata",
        [None, [], "x", {}, {"network_data_format": 3}, {"network_data_format": {"outputs": []}}]
        + [
            {"network_data_format": {"outputs": outputs}}
            for outputs in ({}, {"pred": 1}, {"a": {}, "b": {}}, {"pred": {"channel_def": "x"}})
        ]
        + [{"network_data_format": {"outputs": {"pred": {"channel_def": {"one": "liver"}}}}}],
    )
    def test_metadata_of_another_form_gives_no_names(self, metadata):
        assert LabelNames.of_metadata(metadata) == LabelNames({})

    def test_names_of_the_main_output(self):
        own = {"channel_def": {"0": "background", "1": "liver"}}
        for outputs in ({"pred": own, "features": {"channel_def": {"0": "no"}}}, {"logits": own}):
            assert LabelNames.of_metadata({"network_data_format": {"outputs": outputs}}).channels == {0: "background", 1: "liver"}


class TestRefused:
    def test_probabilities_and_objects_are_no_labels(self, tmp_path):
        with pytest.raises(UnknownLabels, match="fractions"):
            amounts(saved(tmp_path / "a.nii", label_map().astype(np.float32) / 3))
        with pytest.raises(UnknownLabels, match="numbered objects"):
            amounts(saved(tmp_path / "a.nii", np.arange(8**3, dtype=np.int16).reshape(8, 8, 8)))
        with pytest.raises(UnknownLabels, match="fractions"):
            amounts(saved(tmp_path / "a.nii", np.full((2, 2, 2), np.nan, np.float32)))

    def test_a_mask_that_cannot_be_read(self, tmp_path):
        for name in ("a.nii.gz", "a.png", "a.npy"):
            (tmp_path / name).write_bytes(b"nothing")
            with pytest.raises(UnknownLabels, match="cannot be read"):
                read_mask(tmp_path / name)
