"""NIfTI files are used where nibabel and ITK agree on their place, and their masks lie there for both."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage

from monai_tta import Source
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.declared_place import check_loaded_place, ras_affine_of_itk
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.segment import segment
from tests.attack.arena import SMALL, small_bundle
from tests.attack.series import CT

SHAPE = (20, 18, 12)
TURNED = np.array([[0.9553, -0.2955, 0, 10], [0.2955, 0.9553, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]])
AFFINE = TURNED @ np.diag([2, 1.5, 4, 1])
MIRRORED = AFFINE @ np.diag([-1.0, 1, 1, 1])
SHEARED = AFFINE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def beside(millimetres):
    """The affine of an image that lies so much farther to the right."""
    moved = AFFINE.copy()
    moved[0, 3] += millimetres
    return moved


def write(file, sform=None, qform=None, codes=(1, 1), zooms=None, shape=SHAPE):
    """A noisy image with these forms; a form of None is not set."""
    data = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    image = nib.Nifti1Image(data, None)
    image.set_qform(qform, codes[1] if qform is not None else 0)
    image.set_sform(sform, codes[0] if sform is not None else 0)
    if qform is None and sform is not None:
        image.header.set_zooms([*nib.affines.voxel_sizes(sform), 1, 1][: len(shape)])
    if zooms:
        image.header.set_zooms(zooms)
    nib.save(image, file)
    return file


GOOD = {
    "both": dict(sform=AFFINE, qform=AFFINE),
    "a template's and the scanner's, equal": dict(sform=AFFINE, qform=AFFINE, codes=(4, 1)),
    "sform alone": dict(sform=AFFINE),
    "sform alone, of a template": dict(sform=AFFINE, codes=(3, 0)),
    "qform alone": dict(qform=AFFINE),
    "left-handed": dict(sform=MIRRORED, qform=MIRRORED),
    "left-handed, qform alone": dict(qform=MIRRORED),
    "apart by a twentieth of a voxel": dict(sform=AFFINE, qform=beside(0.1)),
}
BAD = {
    "apart by a sixth of a voxel": (dict(sform=AFFINE, qform=beside(0.35)), "sform and qform disagree by up to 0.35 mm"),
    "apart by 12 mm": (dict(sform=AFFINE, qform=beside(12), codes=(2, 1)), "sform and qform disagree by up to 12 mm"),
    "mirrored against each other": (dict(sform=MIRRORED, qform=AFFINE), "sform and qform disagree"),
    "turned against each other": (dict(sform=AFFINE, qform=np.diag([2, 1.5, 4, 1.0])), "sform and qform disagree"),
    "voxel sizes of another scan, with a qform": (dict(sform=AFFINE, qform=AFFINE, zooms=(3, 3, 3)), "sform and qform disagree"),
    "voxel sizes of another scan": (dict(sform=AFFINE, zooms=(1, 1, 1)), "contradicts its header's voxel sizes"),
    "none": (dict(), "neither its sform nor its qform is set"),
    "sheared": (dict(sform=SHEARED), "sheared: two of its axes are 8.53 degrees off"),
    "sheared, and the qform cannot be": (dict(sform=SHEARED, qform=SHEARED), "sform and qform disagree"),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_image_that_lies_at_one_place_is_used_by_each_reader(name, tmp_path):
    file = write(tmp_path / "scan.nii.gz", **GOOD[name])
    place = check_input_file(file)
    for reader in (None, "ITKReader", "NibabelReader"):
        check_loaded_place(file, place, LoadImage(reader=reader)(str(file)))


@pytest.mark.parametrize("name", BAD)
def test_an_image_that_programs_put_at_two_places_is_refused(name, tmp_path):
    forms, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        check_input_file(write(tmp_path / "scan.nii.gz", **forms))


@pytest.mark.parametrize("shape", [(20, 18), (20, 18, 1), (20, 18, 12, 3), (20, 18, 12, 1, 2)])
def test_flat_images_and_those_with_more_dimensions_have_a_place_too(shape, tmp_path):
    file = write(tmp_path / "scan.nii.gz", AFFINE, AFFINE, shape=shape)
    check_loaded_place(file, check_input_file(file), LoadImage()(str(file)))
    with pytest.raises(ValueError, match="disagree"):
        check_input_file(write(file, AFFINE, beside(12), shape=shape))


def test_other_volumes_are_read_where_their_headers_put_them(tmp_path):
    image = sitk.GetImageFromArray(np.zeros(SHAPE[::-1], np.float32))
    image.SetDirection(TURNED[:3, :3].ravel())
    image.SetOrigin((5.0, 6.0, 7.0))
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    place = check_input_file(tmp_path / "scan.mha")
    volume = LoadImage()(str(tmp_path / "scan.mha"))
    check_loaded_place(tmp_path / "scan.mha", place, volume)
    volume.meta["original_affine"] = np.eye(4)
    with pytest.raises(ValueError, match="beside where its header puts it"):
        check_loaded_place(tmp_path / "scan.mha", place, volume)


@pytest.mark.parametrize(("bundle", "changes"), [("hippocampus_mri", SMALL), ("abdomen_ct", CT)])
def test_masks_lie_on_their_images_for_nibabel_and_for_itk(bundle, changes, tmp_path):
    """One bundle reads with nibabel, the other with ITK."""
    forms = ("both", "sform alone", "qform alone", "left-handed")
    images = [write(tmp_path / f"{number}.nii.gz", **GOOD[name]) for number, name in enumerate(forms)]
    images.append(write(tmp_path / "apart.nii.gz", AFFINE, beside(12)))
    source = load_bundle(small_bundle(tmp_path / "bundle", bundle, changes))
    outcomes = list(segment(source, images, tmp_path / "out", Source()))
    assert [outcome.error is None for outcome in outcomes] == [True] * 4 + [False]
    for outcome in outcomes[:4]:
        (mask,) = outcome.masks
        found = nib.load(mask)
        np.testing.assert_allclose(found.affine, nib.load(outcome.image).affine, atol=1e-4)
        np.testing.assert_allclose(found.get_sform(coded=True)[0], found.get_qform(coded=True)[0], atol=1e-4)
        itk_places = [ras_affine_of_itk(sitk.ReadImage(str(file))) for file in (mask, outcome.image)]
        np.testing.assert_allclose(*itk_places, atol=1e-4)
        np.testing.assert_allclose(itk_places[0], found.affine, atol=1e-4)
