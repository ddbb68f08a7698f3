"""Small random affine warps of windows, and their inverses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class AffineWarps:
    """One warp for each window: the identity plus Gaussian noise on every entry of the matrix, translation included.

    Coordinates run from -1 to 1 along each axis of a window, so a warp is relative to the window's sides.

    Args:
        dims: how many spatial axes windows have, 2 or 3.
        seeds: one for each window. The caller's generators are untouched.
        deviation: of the noise, 0 or more.
        like: a tensor whose dtype and device the matrices get.
    """

    def __init__(self, dims: int, seeds: Sequence[int], deviation: float, like: Tensor) -> None:
        noise = [torch.randn(dims, dims + 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.matrices = (torch.eye(dims, dims + 1) + deviation * torch.stack(noise)).to(like)

    @cached_property
    def inverses(self) -> Tensor:
        """The matrices ``(N, dims, dims + 1)`` that undo the warps."""
        linear = torch.linalg.inv(self.matrices[:, :, :-1])
        return torch.cat([linear, -linear @ self.matrices[:, :, -1:]], 2)

    def apply(self, x: Tensor) -> Tensor:
        """Windows ``(N, C, *spatial)``, warped. Outside them are zeros.

        Args:
            x: the windows, one for each seed.
        """
        return _sampled(x, self.matrices)

    def undo(self, x: Tensor) -> Tensor:
        """Bring ``(N, C, *spatial)`` back to where it was, by linear interpolation. What has left the window is zero.

        Args:
            x: warped windows, or the network's answers to them.
        """
        return _sampled(x, self.inverses)

    def kept(self, shape: Sequence[int]) -> Tensor:
        """Where a window of this spatial shape has never left its frame there and back: booleans ``(N, 1, *shape)``.

        Args:
            shape: voxels along each axis.
        """
        ones = self.matrices.new_ones(len(self.matrices), 1, *shape)
        return self.undo(self.apply(ones)) > 0.999


def _sampled(x: Tensor, matrices: Tensor) -> Tensor:
    grid = F.affine_grid(matrices.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
