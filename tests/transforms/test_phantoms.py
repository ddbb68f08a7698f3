"""Phantoms: the same patient for every scanner, with exact labels."""

import random

import numpy as np
import pytest
import torch

from monai_tta.transforms.phantoms import SCANNERS, Scanner, ct_phantom, fundus_phantom, mri_phantom

KINDS = pytest.mark.parametrize(
    ("make", "size"), [(ct_phantom, (32, 30, 16)), (mri_phantom, (24, 26, 28)), (fundus_phantom, (64, 60))]
)


@KINDS
def test_a_scanner_changes_the_look_and_never_the_label(make, size):
    reference = make(size, seed=3)
    assert reference.image.shape[1:] == reference.label.shape[1:] == size
    for name in SCANNERS:
        other = make(size, seed=3, scanner=name)
        assert torch.equal(other.label, reference.label) and other.image.isfinite().all()
        assert torch.equal(other.image, reference.image) == (name == "reference")


@KINDS
def test_seeds_decide_and_the_callers_generators_stay(make, size):
    of_torch = torch.get_rng_state()
    of_numpy = np.random.get_state()[1].copy()
    of_python = random.getstate()
    assert torch.equal(make(size, seed=1).image, make(size, seed=1).image)
    assert not torch.equal(make(size, seed=1).label, make(size, seed=2).label)
    assert torch.equal(of_torch, torch.get_rng_state()) and (of_numpy == np.random.get_state()[1]).all()
    assert of_python == random.getstate()


@KINDS
def test_every_label_is_there_and_differs_from_its_surroundings(make, size):
    phantom = make(size, seed=0, scanner=Scanner(noise=0.0))
    grey = phantom.image.mean(0)
    for mask in phantom.label if make is fundus_phantom else [phantom.label[0] == k for k in phantom.label.unique()[1:]]:
        inside = grey[mask > 0]
        assert 4 < inside.numel() < grey.numel() / 3 and inside.mean() > grey.mean()
    if make is fundus_phantom:
        disc, cup = phantom.label
        assert (cup <= disc).all() and cup.sum() < disc.sum()
        assert phantom.image.min() >= 0 and phantom.image.max() <= 1
    elif make is ct_phantom:
        assert phantom.image.min() == -1000 and set(phantom.label.unique().tolist()) == {0, 1, 2}


@KINDS
def test_bad_sizes_and_scanners_are_refused(make, size):
    with pytest.raises(ValueError, match="sides of at least 8 voxels"):
        make(size[:-1])
    with pytest.raises(ValueError, match="no scanner 'xyz'; choose one of reference"):
        make(size, scanner="xyz")


@pytest.mark.parametrize(("make", "size"), [(ct_phantom, (10, 10, 10)), (mri_phantom, (11, 11, 11)), (fundus_phantom, (20, 20))])
def test_a_label_is_never_lost_between_voxels(make, size):
    organs = {ct_phantom: 3, mri_phantom: 2, fundus_phantom: 2}[make]
    for seed in range(100):
        label = make(size, seed).label
        assert label.unique().numel() == organs and all(part.any() for part in label)
    with pytest.raises(ValueError, match="too coarse: the smallest organ could fall between voxels"):
        make([8] * len(size))


@pytest.mark.parametrize("scanner", SCANNERS)
def test_values_are_in_a_scanners_range(scanner):
    assert ct_phantom((24, 24, 16), scanner=scanner).image.min() >= -1024
    assert mri_phantom((24, 24, 24), scanner=scanner).image.min() >= 0
