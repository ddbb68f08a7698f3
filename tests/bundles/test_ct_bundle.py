"""The CT bundle: DICOM series and NIfTI in, masks in the image's own space out; training on any datalist."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from monai_tta.cli.demo import BUNDLE as HIPPOCAMPUS

BUNDLE = HIPPOCAMPUS.parent / "abdomen_ct"
OVERLAYS = BUNDLE.parent / "overlays"
STRAIGHT = np.eye(3)
TURNED = np.array([[0.9553, -0.2955, 0], [0.2955, 0.9553, 0], [0, 0, 1]])  # 0.3 rad about the long axis
TIPPED = np.array([[1, 0, 0], [0, 0.9553, -0.2955], [0, 0.2955, 0.9553]])  # a tilted gantry's resampled series
PRONE = np.diag([-1.0, -1, 1])


def body(size=(40, 36, 14)):
    """A soft-tissue cylinder in air with a denser block in it, in HU, (x, y, z)."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    hu = np.where(x**2 + y**2 < 0.8, 40, -1000).astype(np.int16)
    hu[8:18, 8:18, 3:10] = 110
    return hu + np.random.default_rng(0).integers(-15, 15, size, dtype=np.int16)


def sitk_image(direction):
    image = sitk.GetImageFromArray(body().transpose(2, 1, 0))
    image.SetSpacing((3.1, 2.9, 4.0))
    image.SetOrigin((-60.0, 20.5, -311.0))
    image.SetDirection(np.asarray(direction, float).flatten().tolist())
    return image


def write_series(image, folder):
    """Write one DICOM file per slice, with the tags that tell a series and its place."""
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    orientation = "\\".join(f"{v:.6f}" for v in [*direction[:, 0], *direction[:, 1]])
    for k in range(image.GetSize()[2]):
        part = image[:, :, k]
        tags = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{k + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.3",
            "0020|0013": str(k + 1),
            "0020|0037": orientation,
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0018|0050": "4.0",
        }
        for tag, value in tags.items():
            part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(part)


def bundle_run(root, files, *words):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str([str(f) for f in files])]
    done = subprocess.run([*command, "--bundle_root", str(root), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_masks_come_back_in_the_images_own_space(tmp_path):
    """From DICOM and NIfTI, straight, oblique in two ways and flipped. SimpleITK and nibabel both agree with the input."""
    given = {}
    for name, direction in (("straight", STRAIGHT), ("turned", TURNED), ("tipped", TIPPED), ("prone", PRONE)):
        image = sitk_image(direction)
        write_series(image, tmp_path / "in" / f"{name}_series")
        sitk.WriteImage(image, str(tmp_path / "in" / f"{name}.nii.gz"))
        given[f"{name}_series"] = given[name] = image
    files = [BUNDLE / "configs" / "inference.yaml", OVERLAYS / "adapt.yaml"]
    bundle_run(BUNDLE, files, "--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out")
    for name, image in given.items():
        file = tmp_path / "out" / f"{name}_seg.nii.gz"
        mask = sitk.ReadImage(str(file))
        assert mask.GetSize() == image.GetSize()
        for what in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(mask, what)(), getattr(image, what)(), atol=2e-3, err_msg=f"{name} {what}")
        lps_corner = np.array(image.TransformIndexToPhysicalPoint((39, 35, 13)))  # NIfTI is in RAS
        corner = lps_corner * [-1, -1, 1]
        np.testing.assert_allclose(nib.load(file).affine @ [39, 35, 13, 1], [*corner, 1], atol=1e-2)
        labels = np.asarray(nib.load(file).dataobj)
        assert set(np.unique(labels)) <= {0, 1, 2, 3, 4}
    for name in ("straight", "turned", "tipped", "prone"):
        pair = [nib.load(tmp_path / "out" / f"{n}_seg.nii.gz").get_fdata() for n in (name, f"{name}_series")]
        assert (pair[0] != pair[1]).mean() < 0.01  # the same scan from two kinds of files; tags are rounded


@pytest.mark.slow
def test_training_and_evaluation_on_a_datalist(tmp_path):
    label = np.zeros(body().shape, np.uint8)
    label[8:18, 8:18, 3:10] = 1
    for name, data in (("ct", body()), ("mask", label)):
        nib.save(nib.Nifti1Image(data, np.diag([3.0, 3, 4, 1])), tmp_path / f"{name}.nii.gz")
    case = {"image": "ct.nii.gz", "label": "mask.nii.gz"}
    (tmp_path / "list.json").write_text(json.dumps({"training": [case], "validation": [case]}), encoding="utf-8")
    (tmp_path / "bundle" / "models").mkdir(parents=True)
    data = ["--dataset_dir", tmp_path, "--datalist_file", tmp_path / "list.json"]
    spleen = ["--organs", "[1]", "--out_channels", 2, "--roi_size", "[32,32,16]"]
    once = ["--repeats", 1, "--max_epochs", 1, "--val_interval", 1]
    bundle_run(tmp_path / "bundle", [BUNDLE / "configs" / "train.yaml"], *data, *spleen, *once)
    state = torch.load(tmp_path / "bundle" / "models" / "model.pt", weights_only=True)
    assert next(reversed(state.values())).shape[0] == 2
    files = [BUNDLE / "configs" / "inference.yaml", BUNDLE / "configs" / "evaluate.yaml", OVERLAYS / "wrap.yaml"]
    bundle_run(BUNDLE, files, *data, "--output_dir", tmp_path / "scores")
    scores = (tmp_path / "scores" / "val_mean_dice_raw.csv").read_text(encoding="utf-8")
    assert "ct.nii.gz" in scores, "each score stands beside its case"
