"""Shape features of masks for which they are known."""

from math import isnan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta.guards.shape_features import count_components, measure_shape


def ball(dims, radius, size=33):
    axes = torch.meshgrid(*[torch.arange(size) - size // 2] * dims, indexing="ij")
    return sum(a**2 for a in axes) <= radius**2


@pytest.mark.parametrize("dims", [2, 3])
def test_a_ball_has_one_component_and_is_round_and_compact(dims):
    found = measure_shape(ball(dims, 12))
    assert found.components == 1 and found.volume == int(ball(dims, 12).sum())
    assert found.elongation == pytest.approx(1, abs=1e-6) and found.compactness == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dims", [2, 3])
def test_spacing_stretches_a_mask(dims):
    found = measure_shape(ball(dims, 12), (3.0, *[1.0] * (dims - 1)))
    assert found.volume == 3 * int(ball(dims, 12).sum())
    assert found.elongation == pytest.approx(3, rel=0.01) and found.compactness == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="spacing"):
        measure_shape(ball(dims, 3), (1.0,))


def test_scattered_components_are_counted_and_not_compact():
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[1:5, 1:5], mask[14:18, 14:18], mask[9, 9] = True, True, True
    found = measure_shape(mask)
    assert found.components == 2 and count_components(mask, small=1) == 3 and found.compactness < 0.4
    mask[5, 5] = True  # shares a corner
    assert measure_shape(mask).components == 2


def test_an_empty_mask_has_no_shape():
    found = measure_shape(torch.zeros(4, 4, 4, dtype=torch.bool))
    assert (found.volume, found.components) == (0, 0) and isnan(found.elongation) and isnan(found.compactness)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 3), st.floats(0.05, 1))
def test_no_mask_is_rounder_than_a_ball_and_turning_changes_nothing(seed, dims, share):
    mask = torch.rand(*[6] * dims, generator=torch.Generator().manual_seed(seed)) < share
    mask[(0,) * dims] = True
    found, turned = measure_shape(mask), measure_shape(mask.flip(0).transpose(0, 1))
    assert found.elongation >= 1 - 1e-9 and 0 < found.compactness <= 1.05
    assert turned.elongation == pytest.approx(found.elongation) and turned.compactness == pytest.approx(found.compactness)
    assert turned.components == found.components and turned.volume == found.volume
