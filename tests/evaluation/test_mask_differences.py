"""Differences of masks: voxels, labels and grids; Dice as SimpleITK counts it."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from monai_tta.evaluation.mask_differences import IncomparableMasks, compare_masks
from monai_tta.pipeline.mask_labels import UnknownLabels

SPLEEN = {"name": "spleen", "value": 1, "voxels": 0, "ml": 0.0}
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def nifti(path, voxels, affine=AFFINE):
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture
def masks(tmp_path):
    """Two random label maps (9, 8, 7) of values 0 to 3 that differ in about a third of the voxels."""
    rng = np.random.default_rng(0)
    one = rng.integers(0, 4, (9, 8, 7)).astype(np.uint8)
    two = np.where(rng.random(one.shape) < 0.4, rng.integers(0, 4, one.shape), one).astype(np.uint8)
    return nifti(tmp_path / "one.nii.gz", one), nifti(tmp_path / "two.nii.gz", two), one, two


def test_each_label_has_the_dice_that_simpleitk_finds(masks):
    one, two, voxels, others = masks
    found = compare_masks([one], [two], [SPLEEN])
    assert (found.n_voxels, found.n_different, found.same) == (9 * 8 * 7, (voxels != others).sum(), False)
    assert [label.name for label in found.labels] == ["spleen", "value 2", "value 3"]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(sitk.ReadImage(str(one)), sitk.ReadImage(str(two)))
    for value, label in enumerate(found.labels, 1):
        assert label.dice == pytest.approx(overlap.GetDiceCoefficient(value), abs=1e-6)
        assert label.amounts == pytest.approx(((voxels == value).sum() * 0.012, (others == value).sum() * 0.012))
        assert label.unit == "ml"
    assert found.worst == min(label.dice for label in found.labels) < 1


def test_a_mask_is_the_same_as_its_copy_in_another_file(masks, tmp_path):
    one, _, voxels, _ = masks
    found = compare_masks([one], [nifti(tmp_path / "copy.nii", voxels)], [SPLEEN])
    assert found.same and found.n_different == 0 and found.worst == 1.0 and found.notes == ()


def test_a_label_of_one_mask_alone_has_dice_0_and_one_of_none_has_1(tmp_path):
    voxels = np.zeros((4, 4, 4), np.uint8)
    voxels[0, 0, 0] = 2
    one, two = nifti(tmp_path / "a.nii", voxels), nifti(tmp_path / "b.nii", voxels * 0)
    for pair in ((one, two), (two, one)):
        found = compare_masks([pair[0]], [pair[1]], [SPLEEN])
        assert [(label.name, label.dice) for label in found.labels] == [("spleen", 1.0), ("value 2", 0.0)]


def test_channels_are_compared_one_by_one(tmp_path):
    voxels = np.zeros((4, 4, 4, 2), np.uint8)
    voxels[:2] = 1  # the channels together are everything: no one-hot coding is to be seen in them
    voxels[..., 1] = 1 - voxels[..., 1]
    others = voxels.copy()
    others[0, 0, 0, 1] = 1
    labels = [{"name": name, "channel": k, "voxels": 0, "ml": None} for k, name in enumerate(("cup", "disc"))]
    found = compare_masks([nifti(tmp_path / "a.nii", voxels)], [nifti(tmp_path / "b.nii", others)], labels)
    assert [(label.name, label.dice, label.amounts, label.unit) for label in found.labels] == [
        ("cup", 1.0, (32, 32), "voxels"),
        ("disc", pytest.approx(64 / 65), (32, 33), "voxels"),
    ]


def test_what_else_makes_a_mask_another_one(masks, tmp_path):
    one, _, voxels, _ = masks
    other = compare_masks([one], [nifti(tmp_path / "a.nii", voxels.astype(np.float32))], [SPLEEN])
    assert other.notes == ("the masks hold uint8 and float32",) and other.n_different == 0 and not other.same
    moved = AFFINE.copy()
    moved[0, 3] = 0.1
    (note,) = compare_masks([one], [nifti(tmp_path / "b.nii", voxels, moved)], [SPLEEN]).notes
    assert note == "the masks lie up to 0.05 voxels apart"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda voxels, affine: (voxels[:-1], affine), "8x8x7x1"),
        (lambda voxels, affine: (voxels, affine * 2), "on different grids"),
        (lambda voxels, affine: (voxels[..., None].repeat(2, -1), affine), "voxels and channels"),
    ],
)
def test_other_grids_are_said_and_not_compared(masks, tmp_path, change, said):
    one, _, voxels, _ = masks
    with pytest.raises(IncomparableMasks, match=said):
        compare_masks([one], [nifti(tmp_path / "a.nii", *change(voxels, AFFINE))], [SPLEEN])


def test_another_number_of_masks_and_a_damaged_one(masks, tmp_path):
    one, two, _, _ = masks
    with pytest.raises(IncomparableMasks, match="there are 1 masks and 2"):
        compare_masks([one], [one, two], [])
    (tmp_path / "bad.nii.gz").write_bytes(one.read_bytes()[:100])
    with pytest.raises(UnknownLabels):
        compare_masks([one], [tmp_path / "bad.nii.gz"], [])


def test_pictures_and_fractions(tmp_path):
    voxels = np.zeros((6, 5), np.uint8)
    voxels[2:4] = 255
    others = voxels.copy()
    others[2, 0] = 0
    for name, values in (("a", voxels), ("b", others)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    (label,) = compare_masks([tmp_path / "a.png"], [tmp_path / "b.png"], []).labels
    assert (label.name, label.amounts, label.unit) == ("value 255", (10, 9), "pixels")
    fractions = np.random.default_rng(0).random((4, 4, 4)).astype(np.float32)
    fractions[0, 0, 0] = np.nan
    one, two = nifti(tmp_path / "a.nii", fractions), nifti(tmp_path / "b.nii", np.where(fractions > 0.5, 0, fractions))
    found = compare_masks([one], [two], [])
    assert found.n_different == (fractions > 0.5).sum() and found.labels[0].name == "all that is not 0"
    assert compare_masks([one], [one], []).same
