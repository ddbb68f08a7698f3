"""Maps of uncertainty through the steps that bundles have: cropped, resampled, resized, corrected, saved by own steps."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    Lambdad,
    LoadImaged,
    Orientationd,
    Resized,
    SaveImaged,
    Spacingd,
)
from PIL import Image

from monai_tta.core.uncertainty import largest_information
from monai_tta.pipeline.input_correction import add_corrections
from monai_tta.pipeline.input_keys import CORRECTION
from monai_tta.pipeline.uncertainty_map import write_map
from monai_tta.quality.corrections import Reorder
from monai_tta.transforms.headneck_masks import SaveStructuresd

OBLIQUE = np.array([[0, -1.5, 0, 20], [2.0, 0, 0, -4], [0, 0, -3.0, 9], [0, 0, 0, 1]])


def load(file, *steps, also=None):
    preprocessing = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), *steps])
    return preprocessing, preprocessing({"image": str(file)} | (also or {}))


def written(data, preprocessing, postprocessing, folder, name="case", largest=1.0):
    """The image itself as the prediction and as the map: where both are brought back, they must lie on it."""
    image = data["image"]
    data = dict(data) | {"pred": MetaTensor(image.clone()).copy_meta_from(image)}
    before = dict(data)
    postprocessing(data)
    return write_map(image.as_tensor().clone(), largest, before, postprocessing, folder, name)


def smooth(shape):
    """A smooth image in [0, 1] that is different in each corner."""
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return (sum((k + 1) * axis for k, axis in enumerate(axes)) / sum(range(1, len(shape) + 1))).astype(np.float32)


@pytest.fixture
def scan(tmp_path):
    nib.save(nib.Nifti1Image(smooth((20, 26, 12)), OBLIQUE), tmp_path / "case.nii.gz")
    return tmp_path / "case.nii.gz"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def saver(out, **more):
    return SaveImaged("pred", output_dir=str(out), output_postfix="seg", separate_folder=False, print_log=False, **more)


@pytest.mark.parametrize("nearest", [False, True])
def test_it_comes_back_to_its_image_by_interpolation_whatever_the_mask_does(scan, out, nearest):
    steps = Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", pixdim=(1, 1, 1), mode="bilinear")
    preprocessing, data = load(scan, *steps)
    invert = Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=nearest)
    path = written(data, preprocessing, Compose([AsDiscreted("pred", threshold=0.5), invert, saver(out, resample=False)]), out)
    found = nib.load(path)
    assert path == out / "case_uncertainty.nii.gz" and np.allclose(found.affine, OBLIQUE)
    assert np.abs(found.get_fdata() - smooth((20, 26, 12)))[1:-1, 1:-1, 1:-1].max() < 0.02
    assert len(np.unique(found.get_fdata())) > 1000, "no threshold"


def test_beside_masks_in_a_folder_of_their_own_by_a_step_that_undoes_and_saves_in_one(scan, out):
    crop = CropForegroundd("image", source_key="image", select_fn=lambda x: x > 0.7, allow_smaller=True)
    preprocessing, data = load(scan, crop, Orientationd("image", axcodes="RAS", labels=None))
    save = SaveStructuresd("pred", transform=preprocessing, output_dir=str(out), names=("left eye",))
    path = written(data, preprocessing, Compose([Activationsd("pred", sigmoid=True), save]), out)
    assert path == out / "case" / "case_uncertainty.nii.gz"
    found, image = nib.load(path).get_fdata(), smooth((20, 26, 12))
    assert data["image"].shape[1:] != image.shape and np.abs(found - image)[image > 0.7].max() < 1e-5
    assert (found[:, :, 0] == 0).all(), "what was cut away is 0"


def test_a_mask_that_its_writer_resamples_has_a_map_that_is_resampled(scan, out):
    preprocessing, data = load(scan, Spacingd("image", pixdim=(1, 1, 1), mode="bilinear"))
    path = written(data, preprocessing, Compose([AsDiscreted("pred", threshold=0.5), saver(out, resample=True)]), out)
    assert nib.load(path).shape == (20, 26, 12) and np.allclose(nib.load(path).affine, OBLIQUE, atol=1e-4)
    assert np.abs(nib.load(path).get_fdata() - smooth((20, 26, 12)))[1:-1, 1:-1, 1:-1].max() < 0.02


def test_a_resized_photograph(tmp_path, out):
    photograph = (255 * smooth((40, 60))).astype(np.uint8)
    Image.fromarray(photograph).save(tmp_path / "eye.png")
    preprocessing, data = load(tmp_path / "eye.png", Resized("image", spatial_size=(32, 32), mode="bicubic"))
    data["image"] /= 255
    steps = [
        Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=False),
        AsDiscreted("pred", threshold=0.5),
        Lambdad("pred", lambda p: torch.where(p > 0, 0, 255)),
        saver(out, writer="PILWriter", output_ext=".png", output_dtype=np.uint8, resample=False),
    ]
    largest = largest_information(2, "sigmoid")
    path = written(data, preprocessing, Compose(steps), out, "eye", largest)
    with Image.open(path) as picture:
        assert picture.mode == "I;16" and picture.size == (60, 40)
        grey = np.asarray(picture)
    assert np.abs(grey / 65535 * largest - photograph / 255)[2:-2, 2:-2].max() < 0.03, "65535 is the largest value that there is"


def test_a_corrected_images_map_is_turned_back(scan, out):
    correction = Reorder("axes exchanged and one mirrored", order=(1, 0, 2), mirrored=(0,))
    preprocessing = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    postprocessing = Compose([AsDiscreted("pred", threshold=0.5), saver(out, resample=False)])
    add_corrections(preprocessing, postprocessing)
    data = preprocessing({"image": str(scan), CORRECTION: correction})
    assert data["image"].shape[1:] == (26, 20, 12)
    path = written(data, preprocessing, postprocessing, out)
    assert np.allclose(nib.load(path).get_fdata(), smooth((20, 26, 12)), atol=1e-6)
    assert np.allclose(nib.load(path).affine, OBLIQUE)


def test_what_is_not_on_the_masks_grid_is_refused_and_nothing_is_left_of_it(scan, out):
    preprocessing, data = load(scan)
    moved = Lambdad("pred", lambda p: p[:, 1:])
    with pytest.raises(ValueError, match="does not lie on the mask's grid"):
        written(data, preprocessing, Compose([moved, saver(out, resample=False)]), out)
    assert [path.name for path in out.iterdir()] == ["case_seg.nii.gz"]


def test_no_mask_or_one_of_the_maps_name(scan, out):
    preprocessing, data = load(scan)
    with pytest.raises(ValueError, match="no mask was written"):
        written(data, preprocessing, Compose([AsDiscreted("pred", threshold=0.5)]), out)
    (out / "case_uncertainty.nii.gz").write_bytes(b"a mask")
    with pytest.raises(ValueError, match="has the name of the map"):
        written(data, preprocessing, Compose([AsDiscreted("pred", threshold=0.5)]), out)
    assert (out / "case_uncertainty.nii.gz").read_bytes() == b"a mask"
