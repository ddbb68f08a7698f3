"""Soft labels from scribbles."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Spacingd

from monai_tta.transforms.scribbles import ScribbleToSoftLabel, ScribbleToSoftLabeld


def line(length=41, background=0, organ=30, shape=None):
    """A row of voxels with one marked for the background (value 2) and one for the organ (value 1)."""
    scribble = torch.zeros(1, length, 3)
    scribble[0, background], scribble[0, organ] = 2, 1
    return scribble


def test_weight_and_label_at_distances_in_mm():
    label, weight = ScribbleToSoftLabel((2, 1), half_distance=4.0, spacing=(2.0, 1.0))(line())
    assert label.shape == (2, 41, 3) and weight.shape == (1, 41, 3) and label.dtype == weight.dtype == torch.float32
    torch.testing.assert_close(weight[0, :5, 0], torch.tensor([1, 2**-0.5, 0.5, 2**-1.5, 0.25]))
    torch.testing.assert_close(label[:, 15, 0], torch.tensor([0.5, 0.5]))  # as far from the one as from the other
    assert label[0, 0, 0] > 0.999 and label[1, 30, 0] > 0.999
    torch.testing.assert_close(label.sum(0), torch.ones(41, 3))
    assert (label[1].diff(dim=0) >= 0)[:30].all()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_voxel_size_comes_from_the_affine(dims):
    scribble = torch.zeros(1, *[12] * dims)
    scribble[(0, *[1] * dims)], scribble[(0, *[9] * dims)] = 1, 2
    affine = torch.diag(torch.tensor([3.0, 0.5, 2.0, 1.0]))
    turned = torch.tensor([[0, -1.0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine  # axes keep their steps
    told = ScribbleToSoftLabel((1, 2), spacing=(3.0, 0.5, 2.0)[:dims])(scribble)
    for known in (affine, turned):
        found = ScribbleToSoftLabel((1, 2))(MetaTensor(scribble, affine=known))
        torch.testing.assert_close([part.as_tensor() for part in found], list(told))
        assert all(isinstance(part, MetaTensor) and torch.equal(part.affine, known.double()) for part in found)
    with pytest.raises(ValueError, match="no voxel size"):
        ScribbleToSoftLabel((1, 2))(scribble)


def test_several_scribbles_of_a_class_count_by_the_nearest():
    one, two = line(organ=10), line(organ=10)
    two[0, 40] = 1
    label, weight = ScribbleToSoftLabel((2, 1), spacing=(1, 1))(one)
    more, more_weight = ScribbleToSoftLabel((2, 1), spacing=(1, 1))(two)
    torch.testing.assert_close((label[:, :10], weight[:, :10]), (more[:, :10], more_weight[:, :10]))
    assert more_weight[0, 40, 0] == 1 and (more_weight >= weight).all()


def test_a_class_without_a_scribble_is_absent_or_refused():
    transform = ScribbleToSoftLabel((2, 1, 7), spacing=(1, 1))
    label, weight = transform(line())
    two, two_weight = ScribbleToSoftLabel((2, 1), spacing=(1, 1))(line())
    assert not label[2].any() and torch.equal(label[:2], two) and torch.equal(weight, two_weight)
    with pytest.raises(ValueError, match=r"no scribble of \[7\]"):
        ScribbleToSoftLabel((2, 1, 7), spacing=(1, 1), missing="error")(line())


def test_structures_may_overlap():
    scribble = torch.zeros(1, 30, 30)
    scribble[0, 0], scribble[0, 15], scribble[0, 29] = 1, 2, 3
    classes, weight = ScribbleToSoftLabel((1, 2, 3), spacing=(1, 1))(scribble)
    nested, same_weight = ScribbleToSoftLabel((1, 2, 3), channels=((2, 3), (3,)), spacing=(1, 1))(scribble)
    torch.testing.assert_close(nested, torch.stack([classes[1] + classes[2], classes[2]]))
    assert torch.equal(weight, same_weight) and (nested[0] >= nested[1]).all()


def test_far_from_all_scribbles_nothing_is_claimed():
    label, weight = ScribbleToSoftLabel((2, 1), half_distance=0.001, spacing=(1, 1))(line(organ=1))
    assert weight[0, 40, 0] == 0 and label[:, 40, 0].tolist() == [0.5, 0.5] and label.isfinite().all()


@pytest.mark.parametrize(
    "choices, said",
    [
        ({"values": (1,)}, "two classes or more"),
        ({"values": (1, 1)}, "different"),
        ({"values": (0, 1)}, "unmarked is another"),
        ({"values": (1, 2), "half_distance": 0}, "above 0"),
        ({"values": (1, 2), "spacing": (1, -1)}, "above 0"),
        ({"values": (1, 2), "channels": ((1, 3),)}, r"channels name \[3\]"),
        ({"values": (1, 2), "missing": "guess"}, "'absent' or 'error'"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices, said):
    with pytest.raises(ValueError, match=said):
        ScribbleToSoftLabel(**choices)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda s: s * 0, "nothing is scribbled"),
        (lambda s: s * (s == 1), "1 alone is scribbled"),
        (lambda s: s * 2.5, "holds 2.5, 5, which stand for no class"),
        (lambda s: s * float("nan"), "stand for no class"),
        (lambda s: s[0], "found shape"),
        (lambda s: s.repeat(2, 1, 1), "found shape"),
        (lambda s: s[..., None], "spacing .* is for 2 axes"),
    ],
)
def test_scribbles_that_cannot_be_meant_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        ScribbleToSoftLabel((2, 1), spacing=(1, 1))(change(line()))


def test_in_a_dictionary_before_resampling(tmp_path):
    """A scribble of one voxel would be lost at 4 mm; its soft label is not, and the scribble itself stays as it was."""
    scribble = np.zeros((24, 25, 26), np.uint8)
    scribble[9, 9, 9], scribble[20, 20, 20] = 1, 2
    nib.save(nib.Nifti1Image(scribble, np.diag([1.0, 1, 1, 1])), tmp_path / "s.nii.gz")
    keys = ["soft_label", "weight"]
    steps = [LoadImaged("scribble"), EnsureChannelFirstd("scribble")]
    steps += [ScribbleToSoftLabeld("scribble", (1, 2)), Spacingd(keys, (4, 4, 4), mode="bilinear")]
    before = {"scribble": str(tmp_path / "s.nii.gz")}
    out = Compose(steps)(before)
    assert before == {"scribble": str(tmp_path / "s.nii.gz")}
    assert out["scribble"].unique().tolist() == [0, 1, 2] and out["weight"].shape[0] == 1
    where = tuple(int(round(9 / 4)) for _ in range(3))
    assert out["soft_label"][(0, *where)] > 0.99 and out["weight"][(0, *where)] > 0.5
    with pytest.raises(ValueError, match="one scribble makes one label"):
        ScribbleToSoftLabeld(["a", "b"], (1, 2))
