"""Views: mirrored and turned copies of windows, which can be undone exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["View", "Views"]


@dataclass(frozen=True)
class View:
    """A pose of a window: mirrors, then quarter turns in a plane.

    Args:
        mirrors: the spatial axes to mirror, counted from 0.
        turns: how many quarter turns.
        plane: the two spatial axes to turn in, counted from 0.

    >>> x = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> v = View(mirrors=(0,), turns=1, plane=(1, 2))
    >>> bool((v.undo(v.apply(x)) == x).all())
    True
    """

    mirrors: tuple[int, ...] = ()
    turns: int = 0
    plane: tuple[int, int] = (0, 1)

    def apply(self, x: Tensor) -> Tensor:
        """Put windows ``(N, C, *spatial)`` into this pose.

        Args:
            x: windows, or probabilities of them.
        """
        x = x.flip([axis + 2 for axis in self.mirrors]) if self.mirrors else x
        return torch.rot90(x, self.turns, [axis + 2 for axis in self.plane]) if self.turns else x

    def undo(self, x: Tensor) -> Tensor:
        """Bring ``(N, C, *spatial)`` from this pose back to the original one.

        Args:
            x: windows or probabilities in this pose.
        """
        x = torch.rot90(x, -self.turns, [axis + 2 for axis in self.plane]) if self.turns else x
        return x.flip([axis + 2 for axis in self.mirrors]) if self.mirrors else x


@dataclass(frozen=True, kw_only=True)
class Views:
    """Which poses to show a network. The default in 2D is the GraTa paper's: identity, two mirrors and three quarter turns.

    A network segments well only the poses that it was trained on. For one that was trained with left-right flips alone, use
    ``axes=(0,)`` in RAS orientation.

    Args:
        mirrors: "axes" for one pose per mirrored axis, "all" for every combination of mirrored axes.
        turns: whether to turn windows in planes, by quarters where both sides are equal and by half a turn elsewhere. None for 2D
            only, because in 3D sides of equal length may differ in spacing.
        axes: the spatial axes that may be mirrored, counted from 0; None for all.

    Raises:
        ValueError: for other values of ``mirrors``, or an axis that is named twice.
    """

    mirrors: Literal["axes", "all"] = "axes"
    turns: bool | None = None
    axes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.mirrors not in ("axes", "all"):
            raise ValueError(f"mirrors must be 'axes' or 'all', found {self.mirrors!r}")
        if self.axes is not None and len(set(self.axes)) < len(self.axes):
            raise ValueError(f"axes names an axis twice: {self.axes}")

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Views:
        """Views as a file keeps them, by `dataclasses.asdict`.

        Args:
            said: the fields; ``axes`` may be a list.
        """
        axes = said["axes"]
        return cls(**{**said, "axes": None if axes is None else tuple(axes)})

    def or_else(self, others: Views) -> Views:
        """These views, and what they leave open as it is in others.

        Args:
            others: e.g. those that were measured.

        >>> Views(axes=(0,)).or_else(Views(axes=(1,), turns=False))
        Views(mirrors='axes', turns=False, axes=(0,))
        """
        if self == Views():
            return others
        if self.mirrors == "all":
            return self
        axes = others.axes if self.axes is None else self.axes
        turns = others.turns if self.turns is None else self.turns
        return Views(axes=axes, turns=turns)

    @property
    def is_plain(self) -> bool:
        """Whether the identity is the only pose, of windows of any shape."""
        return self.axes == () and self.turns is False

    def of(self, shape: Sequence[int]) -> list[View]:
        """The poses for windows of this spatial shape, the identity first.

        Args:
            shape: voxels of a window along each axis.

        Raises:
            ValueError: when windows do not have the axes that may be mirrored.
        """
        dims = len(shape)
        axes = range(dims) if self.axes is None else self.axes
        if any(axis not in range(dims) for axis in axes):
            raise ValueError(f"axes={self.axes} of views do not fit windows of shape {tuple(shape)}: axes count from 0")
        counts = range(1, len(axes) + 1) if self.mirrors == "all" else [1]
        poses = [View()] + [View(mirrors=some) for count in counts for some in combinations(axes, count)]
        turns = dims == 2 if self.turns is None else self.turns
        for plane in combinations(range(dims), 2) if turns else ():
            is_square = shape[plane[0]] == shape[plane[1]]
            poses += [View(turns=k, plane=plane) for k in ((1, 2, 3) if is_square else (2,))]
        return poses
