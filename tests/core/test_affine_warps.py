"""Affine warps: what they do to a window in 2D and 3D, and that they are undone."""

import pytest
import torch

from monai_tta import DGTTA
from monai_tta.core.affine_warps import AffineWarps


def smooth(*shape):
    """A window ``(1, 1, *shape)`` that rises evenly along all axes, which linear interpolation reproduces."""
    return sum(torch.linspace(0, k + 1.0, side).view(-1, *[1] * (len(shape) - 1 - k)) for k, side in enumerate(shape))[None, None]


@pytest.mark.parametrize("shape", [(20, 30), (12, 14, 16)])
def test_what_never_left_the_frame_comes_back(shape):
    x = smooth(*shape)
    warps = AffineWarps(len(shape), [3], 0.05, x)
    back, kept = warps.undo(warps.apply(x)), warps.kept(shape)
    assert 0.5 < kept.double().mean() < 1 and kept.shape == x.shape
    assert not torch.allclose(warps.apply(x)[kept], x[kept], atol=0.02)
    torch.testing.assert_close(back[kept], x[kept], rtol=0, atol=5e-3)  # 0.999 lets a thousandth from outside in


def test_each_window_has_a_warp_of_its_own_seed_and_the_callers_generator_stays():
    before = torch.get_rng_state()
    both = AffineWarps(3, [1, 2], 0.05, torch.zeros(1))
    assert torch.equal(both.matrices[1:], AffineWarps(3, [2], 0.05, torch.zeros(1)).matrices)
    assert not torch.equal(both.matrices[0], both.matrices[1]) and torch.equal(before, torch.get_rng_state())
    still = AffineWarps(2, [1], 0.0, torch.zeros(1))
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(still.undo(still.apply(x)), x)
    assert still.kept((6, 6)).all()


def test_a_negative_deviation_is_refused():
    with pytest.raises(ValueError, match="deviation is 0 or more"):
        DGTTA(deviation=-1)
