"""Corrections of an image that was handed over wrongly: values that change the loaded image, and turn its mask back.

Each corrects one fault: an axis mirrored, axes in another order, inverted grey, another scale of intensities, a wrong spacing,
another order of colours, a constant border. They work on an image as it was loaded, ``(C, *spatial)``, before a bundle's
preprocessing. The affine stays what the file says, unless the correction is of the spacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Correction:
    """A change of the image that would undo one fault.

    Args:
        words: what would be done, and which fault that undoes, for people.
    """

    words: str
    kind: ClassVar[str] = ""
    changes_grid: ClassVar[bool] = False  # whether voxels move, so that the mask must be turned back

    @property
    def name(self) -> str:
        """A short name that tells corrections apart."""
        return self.kind

    def apply(self, image: Tensor) -> Tensor:
        """The corrected image ``(C, *spatial)``; the given one is not changed."""
        raise NotImplementedError

    def undo(self, mask: Tensor, image: Tensor) -> Tensor:
        """A mask of the corrected image as it lies on the image as given.

        Args:
            mask: ``(K, *spatial)`` on the corrected image's grid.
            image: the image as given, ``(C, *spatial)``.
        """
        return mask


@dataclass(frozen=True)
class Reorder(Correction):
    """Put axes into another order, then mirror some.

    Args:
        order: axis k of the corrected image is axis ``order[k]`` of the given one.
        mirrored: axes of the corrected image that are mirrored.
    """

    order: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()
    kind: ClassVar[str] = "axes"
    changes_grid: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Such as ``order 1,0,2`` or ``mirror 0``."""
        parts = []
        if self.order != tuple(range(len(self.order))):
            parts.append("order " + ",".join(map(str, self.order)))
        if self.mirrored:
            parts.append("mirror " + ",".join(map(str, self.mirrored)))
        return " ".join(parts)

    def apply(self, image: Tensor) -> Tensor:
        """The image with its axes in place."""
        moved = image.permute(0, *(axis + 1 for axis in self.order))
        return moved.flip([axis + 1 for axis in self.mirrored]).clone()

    def undo(self, mask: Tensor, image: Tensor) -> Tensor:
        """The mask with its axes as given."""
        turned = mask.flip([axis + 1 for axis in self.mirrored])
        back = sorted(range(len(self.order)), key=lambda k: self.order[k])
        return turned.permute(0, *(axis + 1 for axis in back)).clone()


@dataclass(frozen=True)
class Intensity(Correction):
    """Intensities times a factor plus an offset, for each channel alike.

    Args:
        label: the name.
        factor: not 0.
        offset: in the corrected image's unit.
    """

    label: str = "intensity"
    factor: float = 1.0
    offset: float = 0.0
    kind: ClassVar[str] = "intensity"

    @property
    def name(self) -> str:
        """The label."""
        return self.label

    def apply(self, image: Tensor) -> Tensor:
        """The image on the other scale."""
        return image * self.factor + self.offset


@dataclass(frozen=True)
class ChannelOrder(Correction):
    """Red, green and blue the other way round."""

    kind: ClassVar[str] = "colours"

    def apply(self, image: Tensor) -> Tensor:
        """The image with its channels reversed."""
        return image.flip([0])


@dataclass(frozen=True)
class ScaledSpacing(Correction):
    """Another voxel size in the affine.

    Args:
        label: the name.
        factors: for each axis, by what its spacing is multiplied; more than 0.
    """

    label: str = "spacing"
    factors: tuple[float, ...] = ()
    kind: ClassVar[str] = "spacing"

    @property
    def name(self) -> str:
        """The label."""
        return self.label

    def apply(self, image: Tensor) -> Tensor:
        """The image with the other affine."""
        corrected: Any = image.clone()
        affine = torch.as_tensor(corrected.affine).clone()
        affine[:-1, : len(self.factors)] *= torch.tensor(self.factors, dtype=affine.dtype)
        corrected.affine = affine
        return corrected


@dataclass(frozen=True)
class CropBorder(Correction):
    """Cut a constant border away.

    Args:
        low: the first voxel that stays, for each axis.
        high: the first voxel after those that stay.
    """

    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()
    kind: ClassVar[str] = "border"
    changes_grid: ClassVar[bool] = True

    def apply(self, image: Tensor) -> Tensor:
        """The part inside the border. Where it lies in space is not changed: nothing here depends on that."""
        return image[(slice(None), *self._inside)].clone()

    def undo(self, mask: Tensor, image: Tensor) -> Tensor:
        """The mask with the border, which holds the commonest value of the mask's own border: background."""
        edge = torch.cat([mask.select(axis, end).flatten() for axis in range(1, mask.ndim) for end in (0, -1)])
        values, counts = edge.unique(return_counts=True)
        whole = mask.new_full((len(mask), *image.shape[1:]), values[counts.argmax()].item())
        whole[(slice(None), *self._inside)] = mask
        return whole

    @property
    def _inside(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))
