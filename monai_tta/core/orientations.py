"""Orientations: windows of equal sides with their axes in another order, which can be undone exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from monai_tta.core.errors import CannotAdapt


@dataclass(frozen=True)
class AxesOrder:
    """An order of the spatial axes.

    Args:
        first: the axis that comes first, counted from 0; the others follow cyclically.

    >>> import torch
    >>> x = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> turned = AxesOrder(1).apply(x)
    >>> bool((AxesOrder(1).undo(turned) == x).all()), turned[0, 0, 0, 1].tolist()
    (True, [2.0, 6.0])
    """

    first: int

    def apply(self, x: Tensor) -> Tensor:
        """Windows ``(N, C, *spatial)`` with their axes in this order.

        Args:
            x: windows, or probabilities of them.
        """
        return x.permute(0, 1, *(2 + (self.first + axis) % (x.ndim - 2) for axis in range(x.ndim - 2)))

    def undo(self, x: Tensor) -> Tensor:
        """Bring ``(N, C, *spatial)`` from this order back to the original one.

        Args:
            x: windows, probabilities or features in this order.
        """
        return x.permute(0, 1, *(2 + (axis - self.first) % (x.ndim - 2) for axis in range(x.ndim - 2)))


def orientations_of(shape: Sequence[int]) -> list[AxesOrder]:
    """The orientations of windows of this spatial shape, their own first: three for a cube, two for a square.

    Args:
        shape: voxels of a window along each axis.

    Raises:
        CannotAdapt: where sides differ, so that a network would see windows of another shape.
    """
    if len(set(shape)) > 1:
        raise CannotAdapt(
            f"windows of {' x '.join(map(str, shape))} voxels look otherwise from each axis; orientations need windows of equal "
            "sides, and voxels of equal spacing"
        )
    return [AxesOrder(first) for first in range(len(shape))]
