"""In which keywords, and in which form, a promptable network takes prompts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

KINDS = ("points", "box", "mask")


@dataclass(frozen=True, eq=False, kw_only=True)
class Prompts:
    """The prompts of one window for B objects.

    Args:
        objects: the channels of the answer that they are for.
        points: voxel coordinates ``(B, P, dims)`` in the window; None for none.
        labels: ``(B, P)``: 1 inside the object, 0 outside, -1 for padding.
        box: ``(B, 2 * dims)``: first, then last voxel along each axis.
        mask: logits ``(B, 1, *spatial)``.
    """

    objects: Sequence[int]
    points: Tensor | None = None
    labels: Tensor | None = None
    box: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PromptArguments:
    """The keywords of a network in the manner of SAM (Kirillov et al., ICCV 2023, arXiv 2304.02643).

    Called without prompts the network answers logits ``(N, B, *spatial)``, one channel per object. Called with prompts for b
    objects and one window, it answers these: ``(1, b, *spatial)`` or ``(b, 1, *spatial)``.

    Args:
        points: of coordinates ``(b, P, dims)`` in voxels of the window, in float32.
        labels: of the points' labels ``(b, P)``: 1 inside the object, 0 outside, -1 for padding.
        box: of boxes ``(b, 2 * dims)``: first, then last voxel along each axis.
        mask: of logits ``(b, 1, *spatial)`` of the answer so far.
        reversed_axes: coordinates are in the order of (x, y), the last axis first, as in SAM's own code.
    """

    points: str = "points"
    labels: str = "labels"
    box: str = "box"
    mask: str = "mask"
    reversed_axes: bool = False

    def check(self, network: nn.Module, kinds: Sequence[str]) -> None:
        """Refuse a network that does not take these prompts.

        Args:
            network: the promptable network.
            kinds: of "points", "box" and "mask".

        Raises:
            ValueError: with the keyword that is missing, and those that there are.
        """
        wanted = [keyword for kind in kinds for keyword in self._keywords(kind)]
        taken = inspect.signature(network.forward).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()) and len(taken) < 3:
            return  # a shell that passes everything on; the network inside will speak for itself
        if missing := [keyword for keyword in wanted if keyword not in taken]:
            others = ", ".join(name for name, p in taken.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
            raise ValueError(
                f"{type(network).__name__} takes no prompts by the keyword {' or '.join(map(repr, missing))}; it takes {others}. "
                "Name its keywords, as in arguments=PromptArguments(points='clicks'), or use it without SelfPrompting"
            )

    def without_prompts(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords of the first answer.

        Args:
            kwargs: what the caller gives the network by keyword.

        Raises:
            ValueError: when the caller gives prompts of their own.
        """
        names = [keyword for kind in KINDS for keyword in self._keywords(kind)]
        if given := [name for name in names if kwargs.get(name) is not None]:
            raise ValueError(f"{', '.join(given)} is given already; SelfPrompting makes its own prompts, window by window")
        return dict(kwargs)

    def with_prompts(self, kwargs: Mapping[str, Any], prompts: Prompts, window: Tensor) -> dict[str, Any]:
        """The keywords of an answer with prompts, for a window ``(1, C, *spatial)``.

        Args:
            kwargs: what the caller gives the network by keyword.
            prompts: what this round made of the last mask.
            window: the window that they belong to.
        """
        asked = dict(kwargs)
        if prompts.points is not None:
            asked[self.points] = prompts.points.flip(-1) if self.reversed_axes else prompts.points
            asked[self.labels] = prompts.labels
        if prompts.box is not None:
            first, last = prompts.box.chunk(2, dim=1)
            asked[self.box] = torch.cat([first.flip(1), last.flip(1)], 1) if self.reversed_axes else prompts.box
        if prompts.mask is not None:
            asked[self.mask] = prompts.mask
        return asked

    def positional_with_prompts(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """What else than the window is given by position with prompts: what is given without.

        Args:
            args: what the caller gives the network by position.
        """
        return args

    def _keywords(self, kind: str) -> tuple[str, ...]:
        return {"points": (self.points, self.labels), "box": (self.box,), "mask": (self.mask,)}[kind]


@dataclass(frozen=True, kw_only=True)
class VISTA3DArguments(PromptArguments):
    """The keywords of MONAI's `VISTA3D` (He et al. 2024, arXiv 2406.05285). It takes points alone.

    The first answer comes from its class head, for the classes in ``class_vector`` ``(B, 1)``, which the caller gives. Answers
    with prompts come from its point head alone, which is told the classes as ``prompt_class``. Points of ``special_classes``
    have the labels 3 and 2 in place of 1 and 0, as VISTA3D was trained.

    Args:
        special_classes: lesions and others, whose points have labels of their own; MONAI's list.
    """

    points: str = "point_coords"
    labels: str = "point_labels"
    special_classes: tuple[int, ...] = (23, 24, 25, 26, 27, 57, 128)

    def check(self, network: nn.Module, kinds: Sequence[str]) -> None:
        """Refuse boxes, masks, and networks without VISTA3D's keywords.

        Raises:
            ValueError: with what is wrong.
        """
        if tuple(kinds) != ("points",):
            raise ValueError(
                f"{type(network).__name__} takes a mask only to put its own answer into it, and no box; use prompt='points'"
            )
        super().check(network, kinds)

    def without_prompts(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The class head's answer, one channel per class.

        Raises:
            ValueError: when no class is asked for, or the caller gives points.
        """
        if kwargs.get("class_vector") is None:
            raise ValueError("VISTA3D finds nothing without a class; give class_vector=, a tensor (B, 1) of class numbers")
        return super().without_prompts(kwargs) | {"transpose": True}

    def with_prompts(self, kwargs: Mapping[str, Any], prompts: Prompts, window: Tensor) -> dict[str, Any]:
        """The point head's answer for the classes that have points."""
        asked = super().with_prompts({k: v for k, v in kwargs.items() if k not in ("patch_coords", "pad_size")}, prompts, window)
        classes = asked.pop("class_vector")[list(prompts.objects)]
        is_special = torch.isin(classes.flatten(), torch.tensor(self.special_classes, device=classes.device))
        labels = asked[self.labels]
        asked[self.labels] = labels + 2 * (is_special[:, None] & (labels >= 0))
        return asked | {"prompt_class": classes, "transpose": True}

    def positional_with_prompts(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Nothing: told where a window is (``with_coord=True``), VISTA3D would take points to be in the whole image's frame."""
        return ()


def without_idle_places(
    network: nn.Module | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a network is given besides windows, without places that it makes no use of.

    VISTA3D is told where each window lies (``with_coord=True``), to bring clicks into the window's frame or to draw them from a
    label. Asked by classes alone, with no click or only padding (labels of -1), its answer does not depend on it: what it is
    asked by belongs to the case.

    Args:
        network: the network; None where it cannot be seen.
        args: what else it is given by position.
        kwargs: what else it is given by keyword.
    """
    if network is None or not isinstance(arguments_of(network), VISTA3DArguments):
        return args, dict(kwargs)
    labels = kwargs.get("point_labels")
    clicked = kwargs.get("point_coords") is not None and not (isinstance(labels, Tensor) and bool((labels == -1).all()))
    draws = kwargs.get("labels") is not None and kwargs.get("label_set") is not None
    if clicked or draws or kwargs.get("class_vector") is None:
        return args, dict(kwargs)
    kept = {key: value for key, value in kwargs.items() if key not in ("patch_coords", "point_coords", "point_labels")}
    return args[1:], kept  # the first is patch_coords


def arguments_of(network: nn.Module) -> PromptArguments:
    """VISTA3D's keywords for a network that has them, else SAM's."""
    taken = inspect.signature(network.forward).parameters
    return VISTA3DArguments() if {"point_coords", "prompt_class"} <= set(taken) else PromptArguments()
