"""Simulated scanners: they depend on seed and severity, keep the image's unit, and move nothing."""

import pickle
import random

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_tta.transforms.phantoms import ct_phantom, fundus_phantom, mri_phantom
from monai_tta.transforms.shift_base import blurred, thick_slices
from monai_tta.transforms.shift_ct import AIR, CT_SHIFTS, ContrastPhaseShift, LowDoseShift, SharpKernelShift, SoftKernelShift
from monai_tta.transforms.shift_fundus import FUNDUS_SHIFTS, FocusShift, HazeShift
from monai_tta.transforms.shift_mri import (
    MRI_SHIFTS,
    BiasFieldShift,
    BlurNoiseShift,
    ContrastShift,
    MotionGhostShift,
    ScannerShiftd,
)

IMAGES = {
    "mri": mri_phantom((24, 26, 22)).image,
    "ct": ct_phantom((32, 30, 22)).image,
    "fundus": fundus_phantom((64, 72)).image,
}
ALL = [(s, "mri") for s in MRI_SHIFTS] + [(s, "ct") for s in CT_SHIFTS] + [(s, "fundus") for s in FUNDUS_SHIFTS]
EACH = pytest.mark.parametrize(("shift", "kind"), ALL, ids=[s.__name__ for s, _ in ALL])
FIXED = {"GibbsRingingShift", "ThickSliceShift", "CompressionShift", "HazeShift", "FocusShift", "SoftKernelShift"}
FIXED |= {"SharpKernelShift", "SliceThicknessShift", "ContrastPhaseShift"}
PUBLISHED = {
    BiasFieldShift: [0.1149088, 0.2018096],
    ContrastShift: [0.0725587, 0.1001462],
    BlurNoiseShift: [0.0642970, 0.0851487],
}


@pytest.mark.parametrize("severity", range(1, 6))
@EACH
def test_the_same_seed_makes_the_same_image_and_changes_nothing_else(shift, kind, severity):
    image = IMAGES[kind]
    before = image.clone()
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    transform = shift(severity, 7)
    once = transform(image)
    assert torch.equal(once, transform(image)) and torch.equal(once, pickle.loads(pickle.dumps(transform))(image))
    assert torch.equal(image, before) and not torch.equal(once, image)
    assert once.shape == image.shape and once.isfinite().all()
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()


@EACH
def test_another_seed_makes_another_image_where_something_is_random(shift, kind):
    others = {tuple(shift(3, s)(IMAGES[kind]).flatten().tolist()) for s in range(7, 15)}
    assert (len(others) == 1) == (shift.__name__ in FIXED)


@pytest.mark.parametrize("seed", [0, 7])
@EACH
def test_a_higher_severity_changes_more(shift, kind, seed):
    image = IMAGES[kind]
    changes = [float((shift(s, seed)(image) - image).abs().mean()) for s in range(1, 6)]
    assert changes[0] > 0 and all(a < b for a, b in zip(changes, changes[1:], strict=False)), changes


@EACH
def test_meta_data_and_other_keys_stay(shift, kind):
    x = MetaTensor(IMAGES[kind], affine=torch.diag(torch.tensor([2.0, 2, 3, 1])), meta={"where": "ward"})
    x.push_applied_operation({"class": "Spacing"})
    label = torch.ones(1)
    data = ScannerShiftd("image", shift(2, 1))({"image": x, "label": label})
    out = data["image"]
    assert data["label"] is label and torch.equal(torch.as_tensor(out).float(), shift(2, 1)(x).float())
    assert isinstance(out, MetaTensor) and out.meta["where"] == "ward" and torch.equal(out.affine, x.affine)
    assert out.applied_operations == x.applied_operations
    with pytest.raises(KeyError, match="image"):
        ScannerShiftd("image", shift())({"label": label})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int16])
@EACH
def test_dtype_stays(shift, kind, dtype):
    if kind == "fundus" and dtype == torch.int16:
        pytest.skip("photographs in [0, 1] are no integers")
    given = IMAGES[kind].to(dtype)
    out, expected = shift(3, 7)(given), shift(3, 7)(given.float())
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=1e-3, atol=0.5 if dtype == torch.int16 else 1e-3)
    assert shift(3, 7)(IMAGES[kind].numpy()).dtype == torch.float32


def test_bytes_do_not_overflow():
    bright = mri_phantom((16, 16, 16)).image.clamp(0, 900).div(900).mul(255).byte()
    assert (BiasFieldShift(5, 1)(bright).float() - BiasFieldShift(5, 1)(bright.float()).clamp(0, 255)).abs().max() <= 0.5


@EACH
def test_a_bad_severity_is_refused_and_an_image_without_contrast_is_left_alone(shift, kind):
    for severity in (0, 6, 2.5):
        with pytest.raises(ValueError, match=f"found {severity}"):
            shift(severity)
    flat = torch.full_like(IMAGES[kind], 0.5)
    assert shift()(flat) is flat
    for number in ("nan", "inf"):
        broken = IMAGES[kind].clone()
        broken[0, 0, 0] = float(number)
        assert shift()(broken) is broken


@pytest.mark.parametrize("scale", [1e-3, 50.0])
@pytest.mark.parametrize("shift", MRI_SHIFTS)
def test_mri_shifts_do_not_depend_on_the_unit(shift, scale):
    image = IMAGES["mri"]
    moved = shift(3, 7)(image * scale - 3 * scale)
    torch.testing.assert_close(moved / scale + 3, shift(3, 7)(image), rtol=1e-3, atol=0.2)  # of a range of 900


def test_shifts_with_published_results_stay_as_they_are():
    """Mean change of a fixed picture, as first published. The tolerance leaves room for other machines."""
    x = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, n) for n in (12, 14, 10)], indexing="ij")).prod(0)[None]
    for shift, expected in PUBLISHED.items():
        assert [float((shift(s, 3)(x) - x).abs().mean()) for s in (3, 4)] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("thickness", range(2, 7))
def test_thick_slices_stay_where_they_are(thickness):
    """A ramp is its own average: for any thickness it comes back, except at the ends."""
    ramp = torch.arange(31.0).expand(1, 3, 3, 31)
    inside = slice(2 * thickness, 31 - 2 * thickness)
    torch.testing.assert_close(thick_slices(ramp, thickness)[..., inside], ramp[..., inside], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="need a volume"):
        thick_slices(ramp[0], thickness)


def test_blur_keeps_flat_edges_and_slices_apart():
    flat = torch.full((1, 6, 7, 5), -1000.0)
    torch.testing.assert_close(blurred(flat, 1.5), flat, rtol=1e-3, atol=0)
    striped = (torch.arange(5.0) % 2).expand(1, 6, 7, 5) * 1000
    torch.testing.assert_close(blurred(striped, 1.5, axes=2), striped, rtol=1e-3, atol=0)


def test_ghosts_lie_evenly_about_the_true_place():
    head = torch.zeros(1, 40, 40)
    head[:, 15:25, 15:25] = 1
    ghosted = MotionGhostShift(5, 1)(head)
    for axis in (1, 2):
        place = torch.arange(40.0).view(-1, *[1] * (2 - axis))
        assert float((ghosted * place).sum() / ghosted.sum()) == pytest.approx(19.5, abs=0.2)


@pytest.mark.parametrize("shift", CT_SHIFTS)
def test_ct_is_in_hounsfield_units(shift):
    image = IMAGES["ct"].clamp_min(AIR)
    image[:, 0] = -2000  # padding outside the scanner's circle
    out = shift(5, 3)(image)
    assert (out[:, 0] == -2000).all() and out[:, 1:].min() >= AIR
    with pytest.raises(ValueError, match="shift before windowing"):
        shift()(torch.rand(1, 8, 8, 8))


def test_ct_shifts_do_what_their_names_say():
    """Neighbours differ less after the soft kernel and more after the sharp one. Noise is 8 HU per step."""

    def edges(x):
        return float((x[:, 1:] - x[:, :-1]).abs().mean())

    image = IMAGES["ct"]
    assert edges(SoftKernelShift(3)(image)) < edges(image) < edges(SharpKernelShift(3)(image))
    soft = (image > -500).expand_as(image)
    assert float((LowDoseShift(3)(image) - image)[soft].std()) == pytest.approx(24, rel=0.1)
    tissue = torch.tensor([-1000.0, 0, 60, 160, 600]).view(1, -1, 1, 1)
    assert ContrastPhaseShift(2)(tissue).flatten().tolist() == pytest.approx([-1000, 0, 60, 130, 600])


@pytest.mark.parametrize("shift", FUNDUS_SHIFTS)
def test_photographs_stay_photographs(shift):
    white = torch.ones(3, 64, 72)
    white[:, 30, 30] = 0
    for image in (IMAGES["fundus"], white):
        out = shift(5, 3)(image)
        assert out.min() >= 0 and out.max() <= 1
    with pytest.raises(ValueError, match=r"\(3, H, W\), found \(2, 64, 72\)"):
        shift()(IMAGES["fundus"][:2])
    with pytest.raises(ValueError, match="found 0 to"):
        shift()(IMAGES["fundus"] * 255)


@pytest.mark.parametrize("shift", [HazeShift, FocusShift])
def test_the_surround_of_a_photograph_stays_black(shift):
    image = IMAGES["fundus"]
    out, black = shift(5)(image), (image == 0).all(0)
    assert black[0, 0] and (out[:, black] == 0).all()


def test_focus_does_not_darken_the_rim_of_the_retina():
    even = 0.5 * (fundus_phantom((64, 72)).image != 0).any(0).float().expand(3, -1, -1)
    torch.testing.assert_close(FocusShift(5)(even), even, rtol=1e-3, atol=0)
