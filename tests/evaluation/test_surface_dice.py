"""Normalised surface Dice of structures over windows: counted by hand, and as MONAI counts it."""

import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice

from monai_tta.core.record import SURFACE_TOLERANCE
from monai_tta.evaluation.surface_dice import structure_nsd


def cube(at, side=8, n=20):
    """A cube of voxels ``(1, 1, n, n, n)`` that begins at these indices."""
    mask = torch.zeros(1, 1, n, n, n, dtype=torch.bool)
    mask[(0, 0, *(slice(begin, begin + side) for begin in at))] = True
    return mask


def by_hand(moved, side=8):
    """Of a cube's surface voxels the share that has one of the moved cube's within the tolerance, by all pairs of voxels."""
    places = np.argwhere(np.ones((side,) * 3, bool))
    surface = places[((places == 0) | (places == side - 1)).any(1)]
    assert len(surface) == side**3 - (side - 2) ** 3
    apart = ((surface[:, None] - (surface + [moved, 0, 0])[None]) ** 2).sum(2)
    return float((apart.min(1) <= SURFACE_TOLERANCE**2).mean())  # both cubes' surfaces have the same share


class TestCube:
    @pytest.mark.parametrize("moved, expected", [(0, 1.0), (1, 1.0), (2, None), (3, None), (5, None)])
    def test_moved_by_some_voxels(self, moved, expected):
        found = structure_nsd(cube((3, 6, 6)), cube((3 + moved, 6, 6)))
        assert found.tolist() == pytest.approx([by_hand(moved)])
        assert found[0] == 1.0 if expected else found[0] < 1.0

    def test_moved_by_five_voxels_counted_in_the_head(self):
        """A cube has 296 surface voxels: two faces of 64 along the move, and six layers of 28 between them.

        The other's first face is in the sixth of eight layers. Right are the three layers of 28 that are one layer away at most.
        Of the last face, which is inside the other cube, the 28 voxels of its rim are right, and the 20 beside them.
        """
        assert structure_nsd(cube((3, 6, 6)), cube((8, 6, 6))).tolist() == pytest.approx([(3 * 28 + 28 + 20) / 296])


class TestWindows:
    @pytest.mark.parametrize("shape", [(9, 11), (6, 9, 7)])
    def test_it_is_monais_in_each_window(self, shape):
        draw = torch.Generator().manual_seed(0)
        smooth = torch.nn.functional.avg_pool2d if len(shape) == 2 else torch.nn.functional.avg_pool3d
        noise = torch.randn(2, 4, *(n + 4 for n in shape), generator=draw)
        label, mask = (smooth(one, 5, 1) > 0.05 for one in (noise, noise + 0.8 * torch.randn(noise.shape, generator=draw)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = compute_surface_dice(mask, label, [SURFACE_TOLERANCE] * 4, include_background=True).numpy()
        assert np.isfinite(theirs).all() and 0.2 < theirs.mean() < 0.999
        for n in range(2):
            assert structure_nsd(mask[n : n + 1], label[n : n + 1]) == pytest.approx(theirs[n], abs=1e-6)

    def test_several_windows_are_one_surface(self):
        """Two windows: in one all of 8^3 - 6^3 voxels twice are right; in the other, of a smaller cube, nothing is found."""
        masks = torch.cat([cube((3, 6, 6)), cube((0, 0, 0), side=0)])
        label = torch.cat([cube((3, 6, 6)), cube((2, 2, 2), side=4)])
        assert structure_nsd(masks, label).tolist() == pytest.approx([2 * 296 / (2 * 296 + 56)])

    def test_structures_that_are_not_there(self):
        nothing = torch.zeros(1, 1, 20, 20, 20, dtype=torch.bool)
        there = cube((3, 6, 6))
        masks = torch.cat([nothing, there, nothing, there], 1)
        label = torch.cat([nothing, nothing, there, there], 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert structure_nsd(masks, label).tolist() == [1, 0, 0, 1]
