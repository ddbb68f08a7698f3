"""Which way, again: geometric views that can be undone, and intensity restyling by MONAI's random transforms.

Decide, then do: a draw is a seed, and the same seed restyles the same window the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

__all__ = ["View", "Views"]


@dataclass(frozen=True)
class View:
    """A pose of a window: mirrors, then quarter turns in a plane. Spatial axes count from 0.

    >>> x = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> v = View(mirrors=(0,), turns=1, plane=(1, 2))
    >>> bool((v.undo(v.apply(x)) == x).all())
    True
    """

    mirrors: tuple[int, ...] = ()
    turns: int = 0
    plane: tuple[int, int] = (0, 1)

    def apply(self, x: Tensor) -> Tensor:
        """Pose windows ``(N, C, *spatial)``."""
        x = x.flip([a + 2 for a in self.mirrors]) if self.mirrors else x
        return torch.rot90(x, self.turns, [a + 2 for a in self.plane]) if self.turns else x

    def undo(self, x: Tensor) -> Tensor:
        """Bring ``(N, C, *spatial)`` back to the pose it had."""
        x = torch.rot90(x, -self.turns, [a + 2 for a in self.plane]) if self.turns else x
        return x.flip([a + 2 for a in self.mirrors]) if self.mirrors else x


@dataclass(frozen=True, kw_only=True)
class Views:
    """Which poses to look from.

    ``mirrors``: "axes" (one mirror per axis) or "all" (every combination); ``axes``: the spatial axes that may be
    mirrored, None for all of them. A network answers only poses that it was trained to answer: one trained with
    left-right flips alone is best asked for ``axes=(0,)`` in RAS orientation. ``turns``: quarter turns in planes of equal
    size; None means in 2D only, because in 3D equal size does not promise equal spacing. In 2D, "axes" with turns is
    the set of the GraTa paper: identity, two mirrors, three quarter turns.
    """

    mirrors: Literal["axes", "all"] = "axes"
    turns: bool | None = None
    axes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.mirrors not in ("axes", "all"):
            raise ValueError(f"mirrors must be 'axes' or 'all', found {self.mirrors!r}")
        if self.axes is not None and len(set(self.axes)) < len(self.axes):
            raise ValueError(f"axes names an axis twice: {self.axes}")

    def of(self, shape: Sequence[int]) -> list[View]:
        """The poses for windows of this spatial shape, identity first."""
        n = len(shape)
        axes = range(n) if self.axes is None else self.axes
        if any(a not in range(n) for a in axes):
            raise ValueError(f"axes={self.axes} of views do not fit windows of shape {tuple(shape)}: axes count from 0")
        counts = range(1, len(axes) + 1) if self.mirrors == "all" else [1]
        poses = [View()] + [View(mirrors=some) for k in counts for some in combinations(axes, k)]
        turns = n == 2 if self.turns is None else self.turns
        for plane in combinations(range(n), 2) if turns else ():
            square = shape[plane[0]] == shape[plane[1]]
            poses += [View(turns=k, plane=plane) for k in ((1, 2, 3) if square else (2,))]
        return poses
