"""Simulated scanners: seeded, graded, in the image's own units, and never moving anything."""

import random

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_tta.phantoms import ct_phantom, fundus_phantom, mri_phantom
from monai_tta.transforms.shift import MRI_SHIFTS, ScannerShiftd
from monai_tta.transforms.shift_ct import AIR, CT_SHIFTS
from monai_tta.transforms.shift_fundus import FUNDUS_SHIFTS

IMAGES = {
    "mri": mri_phantom((24, 24, 24)).image,
    "ct": ct_phantom((32, 32, 24)).image,
    "fundus": fundus_phantom((64, 64)).image,
}
ALL = [(s, "mri") for s in MRI_SHIFTS] + [(s, "ct") for s in CT_SHIFTS] + [(s, "fundus") for s in FUNDUS_SHIFTS]
EACH = pytest.mark.parametrize(("shift", "kind"), ALL, ids=[s.__name__ for s, _ in ALL])
FIXED = {"GibbsRingingShift", "ThickSliceShift", "CompressionShift", "HazeShift", "FocusShift", "SoftKernelShift"}
FIXED |= {"SharpKernelShift", "SliceThicknessShift", "ContrastPhaseShift"}


@EACH
def test_same_seed_same_image_and_nothing_else_touched(shift, kind):
    image = IMAGES[kind]
    before, states = image.clone(), (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    once, twice = shift(3, 7)(image), shift(3, 7)(image)
    assert torch.equal(once, twice) and torch.equal(image, before) and not torch.equal(once, image)
    assert once.shape == image.shape and once.isfinite().all() and once.dtype == image.dtype
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()
    others = {tuple(shift(3, s)(image).flatten().tolist()) for s in range(7, 15)}
    assert (len(others) == 1) == (shift.__name__ in FIXED)


@EACH
def test_severity_grows(shift, kind):
    image = IMAGES[kind]
    far = [float((shift(s, 7)(image) - image).abs().mean()) for s in range(1, 6)]
    assert far[0] > 0 and all(a < b for a, b in zip(far, far[1:], strict=False)), far


@EACH
def test_meta_data_stay_and_other_keys_too(shift, kind):
    x = MetaTensor(IMAGES[kind], affine=torch.diag(torch.tensor([2.0, 2, 3, 1])), meta={"where": "ward"})
    label = torch.ones(1)
    data = ScannerShiftd("image", shift(2, 1))({"image": x, "label": label})
    assert data["label"] is label and torch.equal(torch.as_tensor(data["image"]).float(), shift(2, 1)(x).float())
    assert data["image"].meta["where"] == "ward" and torch.equal(data["image"].affine, x.affine)


@pytest.mark.parametrize("shift", MRI_SHIFTS)
def test_mri_has_no_unit(shift):
    image = IMAGES["mri"]
    torch.testing.assert_close(shift(3, 7)(image * 0.01 - 3), shift(3, 7)(image) * 0.01 - 3, rtol=1e-3, atol=1e-3)
    flat = torch.full_like(image, 3.0)
    assert torch.equal(shift()(flat), flat)


@pytest.mark.parametrize("shift", CT_SHIFTS)
def test_ct_is_in_hounsfield_units(shift):
    assert shift(5, 3)(IMAGES["ct"]).min() >= AIR
    with pytest.raises(ValueError, match="shift before windowing"):
        shift()(torch.rand(1, 8, 8, 8))


def test_kernels_do_what_they_are_called():
    """Edges: neighbours differ less after the soft kernel and more after the sharp one."""

    def edges(x):
        return float((x[:, 1:] - x[:, :-1]).abs().mean())

    soft, sharp = (next(s for s in CT_SHIFTS if s.__name__ == f"{n}KernelShift") for n in ("Soft", "Sharp"))
    assert edges(soft(3)(IMAGES["ct"])) < edges(IMAGES["ct"]) < edges(sharp(3)(IMAGES["ct"]))


@pytest.mark.parametrize("shift", FUNDUS_SHIFTS)
def test_photographs_stay_photographs(shift):
    out = shift(5, 3)(IMAGES["fundus"])
    assert out.min() >= 0 and out.max() <= 1
    with pytest.raises(ValueError, match=r"\(3, H, W\), found \(1, 64, 64\)"):
        shift()(IMAGES["fundus"][:1])
    with pytest.raises(ValueError, match="found 0 to"):
        shift()(IMAGES["fundus"] * 255)


@EACH
def test_bad_severity_is_refused(shift, kind):
    with pytest.raises(ValueError, match="found 6"):
        shift(6)
