"""CT, MRI and fundus transforms: what they promise, array and dictionary alike."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from PIL import Image

from monai_tta.phantoms import ct_phantom, fundus_phantom, mri_phantom
from monai_tta.transforms import ct, fundus, mri


def meta(x):
    return MetaTensor(x, affine=torch.diag(torch.tensor([2.0, 2, 3, 1])), meta={"where": "ward"})


@pytest.mark.parametrize("organ", [*ct.HU_WINDOWS, (40.0, 400.0)])
def test_a_window_maps_its_ends_to_zero_and_one(organ):
    centre, width = ct.HU_WINDOWS[organ] if isinstance(organ, str) else organ
    ends = torch.tensor([[centre - width, centre - width / 2, centre, centre + width / 2, centre + width]])
    torch.testing.assert_close(ct.HounsfieldWindow(organ)(ends), torch.tensor([[0, 0, 0.5, 1, 1]]))
    x = meta(ct_phantom((16, 16, 8)).image)
    both = ct.HounsfieldWindowd("a", organ)({"a": x, "b": x})
    assert torch.equal(both["a"], ct.HounsfieldWindow(organ)(x)) and both["b"] is x and both["a"].meta["where"] == "ward"


def test_unknown_windows_are_named():
    with pytest.raises(ValueError, match="no window 'tooth'; choose one of abdomen"):
        ct.HounsfieldWindow("tooth")
    with pytest.raises(ValueError, match="positive, found 0"):
        ct.HounsfieldWindow((40, 0))


def test_ct_preprocessing_reads_nifti_and_dicom_alike(tmp_path):
    phantom = ct_phantom((20, 22, 8))
    volume = phantom.image[0].round().to(torch.int16).numpy()
    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    image.SetSpacing((2.0, 2.0, 4.0))
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    (tmp_path / "series").mkdir()
    writer = sitk.ImageFileWriter()
    for k in range(8):
        part = image[:, :, k]
        part.SetMetaData("0008|0060", "CT")
        part.SetMetaData("0020|000e", "1.2.826.0.1.3680043.2.1125.9")
        part.SetMetaData("0020|0032", f"0\\0\\{4 * k}")
        part.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        part.SetMetaData("0020|0013", str(k))
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / "series" / f"{k}.dcm"))
        writer.Execute(part)
    steps = ct.ct_preprocessing(spacing=(2, 2, 4))
    a, b = (steps({"image": str(tmp_path / name)})["image"] for name in ("ct.nii.gz", "series"))
    assert a.shape == b.shape == (1, 20, 22, 8) and a.min() == 0 and a.max() == 1
    torch.testing.assert_close(a.as_tensor(), b.as_tensor())
    torch.testing.assert_close(a.affine, b.affine, atol=1e-4, rtol=0)


def test_mri_preprocessing_can_be_undone_and_keeps_labels(tmp_path):
    phantom = mri_phantom((24, 26, 28))
    affine = np.array([[0, -1.5, 0, 4], [1.5, 0, 0, -3], [0, 0, 1.5, 9], [0, 0, 0, 1.0]])
    for name, data in (("image", phantom.image), ("label", phantom.label)):
        nib.save(nib.Nifti1Image(data[0].numpy().astype(np.float32), affine), tmp_path / f"{name}.nii.gz")
    steps = mri.mri_preprocessing(label="label", spacing=(1.5, 1.5, 1.5))
    data = steps({k: str(tmp_path / f"{k}.nii.gz") for k in ("image", "label")})
    inside = data["image"][mri.head_mask(data["image"])]
    assert abs(float(inside.mean())) < 0.05 and float(inside.std()) == pytest.approx(1, abs=0.05)
    assert set(data["label"].unique().tolist()) == {0, 1}
    data["pred"] = data["label"]
    back = Invertd("pred", steps, orig_keys="image", nearest_interp=True)(data)["pred"]
    assert torch.equal(back.as_tensor(), phantom.label)


def test_head_z_score_does_not_depend_on_air_or_scale():
    x = mri_phantom((24, 24, 24)).image
    wide = torch.nn.functional.pad(x, [6] * 6)
    inner = mri.HeadZScore()(wide)[:, 6:-6, 6:-6, 6:-6]
    torch.testing.assert_close(inner, mri.HeadZScore()(x), rtol=0.05, atol=0.05)
    torch.testing.assert_close(mri.HeadZScore()(x * 7), mri.HeadZScore()(x), rtol=1e-3, atol=1e-3)
    assert torch.equal(mri.HeadZScore()(torch.full((1, 8, 8, 8), 5.0)), torch.zeros(1, 8, 8, 8))
    assert mri.HeadZScored("a")({"a": meta(x)})["a"].meta["where"] == "ward"


def test_n4_takes_a_gradient_out():
    clean = mri_phantom((32, 32, 32), scanner="reference").image
    ramp = torch.linspace(0.5, 1.5, 32).view(1, -1, 1, 1)
    uneven = clean * ramp
    corrected = mri.BiasFieldCorrectiond("a", shrink=2)({"a": meta(uneven)})["a"]
    assert corrected.meta["where"] == "ward" and corrected.shape == clean.shape and corrected.dtype == clean.dtype
    mask = mri.head_mask(clean)

    def unevenness(x):
        ratio = (torch.as_tensor(x) / clean)[mask & (clean > 200)]
        return float(ratio.std() / ratio.mean())

    assert unevenness(corrected) < 0.5 * unevenness(uneven)


def test_percentiles_ignore_a_few_bright_voxels():
    x = mri_phantom((24, 24, 24)).image
    spiked = x.clone()
    spiked[0, 0, 0, :5] = 1e6
    torch.testing.assert_close(mri.RobustPercentiles()(spiked)[:, 2:], mri.RobustPercentiles()(x)[:, 2:], rtol=0.05, atol=0.02)
    assert mri.RobustPercentilesd("a")({"a": x})["a"].max() == 1


def test_field_of_view_is_the_disc_the_camera_saw():
    x = fundus_phantom((96, 96)).image
    x[:, 48:52, 40:44] = 0  # a dark spot inside belongs to it
    y, z = torch.meshgrid(*[torch.linspace(-1, 1, 96)] * 2, indexing="ij")
    truth = (y**2 + z**2 < 0.95**2).float()
    found = fundus.FundusFieldOfViewd("image")({"image": x})["fov"]
    assert found.shape == (1, 96, 96) and (found[0] != truth).float().mean() < 0.02
    assert torch.equal(found, fundus.FundusFieldOfView()(x * 255))


def test_grey_masks_and_nested_channels_are_each_others_inverse():
    nested = fundus_phantom((64, 64)).label
    grey = fundus.NestedToGreyd("m")({"m": nested})["m"]
    assert set(grey.unique().tolist()) == {0, 128, 255}
    assert torch.equal(fundus.GreyToNestedd("m")({"m": grey})["m"], nested)
    assert torch.equal(fundus.GreyToNested()(grey + torch.randint(-9, 9, grey.shape)), nested)
    other = fundus.NestedToGrey(disc=1, cup=2, background=0)(nested)
    assert torch.equal(fundus.GreyToNested(disc=1, cup=2, background=0)(other), nested) and set(other.unique().tolist()) == {
        0,
        1,
        2,
    }
    with pytest.raises(ValueError, match="one channel, found shape"):
        fundus.GreyToNested()(nested)


@pytest.mark.parametrize("source", ["label", "image"])
def test_crops_hold_the_disc_and_can_be_undone(source):
    phantom = fundus_phantom((96, 96), seed=2)
    data = {"image": MetaTensor(phantom.image), "label": MetaTensor(phantom.label)}
    steps = fundus.CropAroundDiscd(["image", "label"], size=64, source_key=source)
    cropped = steps(data)
    assert cropped["image"].shape == (3, 64, 64) and torch.equal(cropped["label"].sum(), phantom.label.sum())
    cropped["pred"] = cropped["label"]
    back = Invertd("pred", Compose([steps]), orig_keys="label", nearest_interp=True)(cropped)["pred"]
    assert torch.equal(back.as_tensor(), phantom.label)
    with pytest.raises(ValueError, match="'label' is empty"):
        fundus.CropAroundDiscd(["image", "label"], source_key="label")({**data, "label": phantom.label * 0})


def test_fundus_preprocessing_is_the_benchmarks(tmp_path):
    phantom = fundus_phantom((80, 60))
    Image.fromarray((phantom.image * 200).byte().permute(2, 1, 0).numpy()).save(tmp_path / "p.png")
    grey = fundus.NestedToGrey()(phantom.label)
    Image.fromarray(grey[0].byte().T.numpy()).save(tmp_path / "m.bmp")
    data = fundus.fundus_preprocessing(label="label", size=(40, 40))(
        {"image": str(tmp_path / "p.png"), "label": str(tmp_path / "m.bmp")}
    )
    assert data["image"].shape == (3, 40, 40) and data["image"].min() == 0 and data["image"].max() == 1
    assert data["label"].shape == (2, 40, 40) and set(data["label"].unique().tolist()) == {0, 1}
