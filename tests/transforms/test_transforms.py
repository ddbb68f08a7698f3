"""CT and MRI transforms: what their docstrings say, for arrays and dictionaries."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd, Spacing

from monai_tta.transforms import ct, mri
from monai_tta.transforms.phantoms import ct_phantom, mri_phantom

DICOM = Path(__file__).parents[3] / "shared" / "data" / "abdomen_ct" / "example_ct_dicom"


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


def test_unknown_windows_are_refused():
    with pytest.raises(ValueError, match="no window 'tooth'; choose one of abdomen"):
        ct.HounsfieldWindow("tooth")
    for width in (0, float("nan")):
        with pytest.raises(ValueError, match=f"positive, found {width}"):
            ct.HounsfieldWindow((40, width))


def test_ct_preprocessing_reads_the_same_from_nifti_and_dicom(tmp_path):
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


@pytest.mark.skipif(not DICOM.is_dir(), reason="needs the DICOM series beside the repository in shared/data")
def test_ct_preprocessing_reads_a_real_series():
    """Compared with SimpleITK, voxel for voxel: at the series' own spacing and axes nothing is resampled."""
    series = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(DICOM)))
    out = ct.ct_preprocessing(spacing=series.GetSpacing(), axcodes="LPS")({"image": str(DICOM)})["image"]
    hu = torch.from_numpy(sitk.GetArrayFromImage(series).astype(np.float32).transpose(2, 1, 0))
    assert out.shape[1:] == series.GetSize() and series.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    torch.testing.assert_close(out[0].as_tensor(), ((hu + 160) / 400).clamp(0, 1), atol=1e-4, rtol=0)
    assert out.affine[:3, 3].tolist() == pytest.approx(np.multiply(series.GetOrigin(), (-1, -1, 1)).tolist())


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


def test_n4_removes_a_brightness_gradient():
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


@pytest.mark.parametrize("step", [mri.HeadZScore(), mri.BiasFieldCorrection(iterations=(2,)), mri.RobustPercentiles()])
def test_undoing_an_earlier_step_leaves_the_given_images_history_alone(step):
    spacing = Spacing((1, 1, 1))
    x = spacing(MetaTensor(mri_phantom((16, 16, 16)).image))
    out = step(x)
    assert len(out.applied_operations) == 1 and torch.equal(out.affine, x.affine)
    spacing.inverse(out)
    out.meta["where"] = "elsewhere"
    assert not out.applied_operations and len(x.applied_operations) == 1 and "where" not in x.meta


def test_n4_multiplies_and_keeps_the_dtype():
    """An image above zero is divided by a field: the ratio is the same for any scale, and nothing is added."""
    image = mri_phantom((24, 24, 24)).image + 100
    n4 = mri.BiasFieldCorrection(shrink=2, iterations=(10,))
    torch.testing.assert_close(n4(image * 4) / 4, n4(image), rtol=1e-3, atol=1e-3)
    log_field = (image / n4(image)).log()[0]
    bends = log_field[2:] - 2 * log_field[1:-1] + log_field[:-2]
    assert bends.abs().max() < 1e-3, "the field is smooth, so it holds none of the image's edges"
    assert n4(image - 500).min() == pytest.approx(float((image - 500).min()), abs=5), "the darkest stays where it was"
    whole = n4(image.short())
    assert whole.dtype == torch.int16 and (whole - n4(image.short().float())).abs().max() <= 0.5 + 1e-3
    flat = torch.full((1, 12, 12, 12), 5.0)
    assert torch.equal(n4(flat), flat)


@pytest.mark.parametrize("step", [mri.HeadZScore(), mri.BiasFieldCorrection()])
def test_mri_refuses_what_is_not_finite(step):
    x = mri_phantom((16, 16, 16)).image
    x[0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(ValueError, match="found 2 voxels that are NaN or infinite; replace them"):
        step(x)


def test_percentiles_ignore_a_few_bright_voxels():
    x = mri_phantom((24, 24, 24)).image
    spiked = x.clone()
    spiked[0, 0, 0, :5] = 1e6
    torch.testing.assert_close(mri.RobustPercentiles()(spiked)[:, 2:], mri.RobustPercentiles()(x)[:, 2:], rtol=0.05, atol=0.02)
    assert mri.RobustPercentilesd("a")({"a": x})["a"].max() == 1
    with pytest.raises(ValueError, match="found lower=99 and upper=1"):
        mri.RobustPercentiles(99, 1)
