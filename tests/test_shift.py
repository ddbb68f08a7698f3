"""Simulated scanners: seeded, graded, and on the image's own scale."""

import pytest
import torch

from monai_tta.transforms.shift import MRI_SHIFTS, ScannerShiftd


@pytest.fixture
def image():
    axis = torch.linspace(-1, 1, 20)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    return 500 + 300 * torch.exp(-(x**2 + y**2 + z**2) * 4)[None]


@pytest.mark.parametrize("shift", MRI_SHIFTS)
def test_same_seed_same_image(shift, image):
    before = image.clone()
    once, twice, other = shift(3, 7)(image), shift(3, 7)(image), shift(3, 8)(image)
    assert torch.equal(once, twice) and not torch.equal(once, other) and torch.equal(image, before)
    assert once.shape == image.shape and once.isfinite().all()


@pytest.mark.parametrize("shift", MRI_SHIFTS)
def test_severity_grows(shift, image):
    far = [float((shift(s, 7)(image) - image).abs().mean()) for s in (1, 3, 5)]
    assert 0 < far[0] < far[1] < far[2]


@pytest.mark.parametrize("shift", MRI_SHIFTS)
def test_commutes_with_scaling(shift, image):
    torch.testing.assert_close(shift(3, 7)(image * 0.01 - 3), shift(3, 7)(image) * 0.01 - 3, rtol=1e-4, atol=1e-4)


def test_constant_image_and_dictionary(image):
    flat = torch.full_like(image, 3.0)
    assert torch.equal(MRI_SHIFTS[0]()(flat), flat)
    data = ScannerShiftd("image", MRI_SHIFTS[0](2, 1))({"image": image, "label": 5})
    assert data["label"] == 5 and torch.equal(data["image"], MRI_SHIFTS[0](2, 1)(image))


def test_bad_severity_is_refused():
    with pytest.raises(ValueError, match="found 6"):
        MRI_SHIFTS[0](6)
