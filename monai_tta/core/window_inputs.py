"""What a network is given besides windows, and whether it belongs to single windows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from monai_tta.core.errors import CannotAdapt


def has_per_window_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the network is given something that belongs to single windows: MONAI's coordinates or condition, VISTA3D's
    clicks.

    Args:
        args: what else it is given by position.
        kwargs: what else it is given by keyword.
    """
    given = (*args, kwargs.get("patch_coords"))
    coordinates = any(isinstance(a, list) and a and all(isinstance(b, list | tuple) for b in a) for a in given)
    return coordinates or any(isinstance(kwargs.get(key), Tensor) for key in ("condition", "point_coords"))


def refuse_views_of_window_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse to mirror or turn windows that something of their own comes with.

    Raises:
        CannotAdapt: with the words for it.
    """
    if has_per_window_inputs(args, kwargs):
        raise CannotAdapt(
            "the network is given clicks, coordinates or a condition of each window's own, which a mirrored view would need "
            "mirrored; choose a method without views"
        )
