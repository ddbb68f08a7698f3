"""Prompts for a promptable network, from a file: for all cases of a run, or case by case.

``label_prompt``, ``points`` and ``point_labels`` mean what they mean to MONAI's VISTA3D bundle. Any other name is a keyword of
the network, or of the bundle's inferer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PROMPTS = "monai_tta prompts"  # the key under which a case's data say which of their keys are prompts
_KEYWORDS = {"label_prompt": "class_vector", "points": "point_coords", "point_labels": "point_labels"}
ALL = "*"  # the name that stands for every case that is not named


def read_prompts(file: Path) -> dict[str, dict[str, Any]]:
    """Prompts by case, with those for all other cases under "*".

    The file is JSON: either the prompts of all cases, ``{"label_prompt": [1, 3]}``, or prompts by case, ``{"case1":
    {"label_prompt": [1]}, "*": {"label_prompt": [3]}}``. A case is called like its image, with or without the ending.

    Args:
        file: the JSON file.

    Raises:
        ValueError: for a file that is no such thing, or prompts that contradict themselves.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{file} must hold prompts, as in {{"label_prompt": [1, 3]}}, or prompts by the names of cases')
    by_case = content if all(isinstance(value, dict) for value in content.values()) else {ALL: content}
    if any(isinstance(value, dict) for prompts in by_case.values() for value in prompts.values()):
        raise ValueError(f"{file} mixes prompts for all cases with prompts by case; put those for all others under {ALL!r}")
    for name, prompts in by_case.items():
        try:
            _check(prompts)
        except ValueError as error:
            raise ValueError(f"{file}{'' if name == ALL else f', case {name}'}: {error}") from error
    return by_case


def prompts_of(by_case: Mapping[str, dict[str, Any]], *names: str) -> dict[str, Any] | None:
    """The prompts of a case.

    Args:
        by_case: from `read_prompts`.
        names: what the case may be called in it.

    Returns:
        None where the file has none for it.
    """
    return next((by_case[name] for name in (*names, ALL) if name in by_case), None)


def prompt_arguments(data: Mapping[str, Any], network: nn.Module, inferer: Callable[..., Any]) -> dict[str, Any]:
    """The keywords with which an inferer is called for a case, once its image is prepared.

    Args:
        data: the case. ``points`` are voxel coordinates in the image's file; they are moved to the prepared image.
        network: the source.
        inferer: the bundle's own.

    Raises:
        ValueError: for a prompt that neither takes, or points for an inferer that does not move them into its windows.
    """
    given = data.get(PROMPTS, ())
    if not given:
        return {}
    arguments: dict[str, Any] = {}
    of_inferer = _named_parameters(inferer)
    of_network = _named_parameters(network.forward)
    device = data["image"].device if isinstance(data.get("image"), Tensor) else torch.device("cpu")
    for name in given:
        keyword = _KEYWORDS.get(name, name)
        if keyword not in of_inferer | of_network:
            raise ValueError(
                f"prompt {name!r} is taken neither by {type(inferer).__name__} nor by {type(network).__name__}, which takes "
                f"{', '.join(sorted(of_network))}"
            )
        if name == "points" and keyword not in of_inferer:
            raise ValueError(
                f"{type(inferer).__name__} does not move points into its windows, so they would mean other places in each; "
                "prompt by label_prompt, or use an inferer that takes point_coords"
            )
        arguments[keyword] = _tensor(name, data[name], data["image"], device)
    if "point_coords" in of_inferer:  # an inferer like VISTA3D's takes all three
        arguments = {keyword: arguments.get(keyword) for keyword in _KEYWORDS.values() if keyword in of_inferer} | arguments
    return arguments


def note_prompts(data: dict[str, Any], arguments: Mapping[str, Any]) -> None:
    """Leave the prompts in a case's data as the network was given them: VISTA3D's postprocessing reads them there."""
    if data.pop(PROMPTS, None) is None:
        return
    for name, keyword in _KEYWORDS.items():
        if keyword in arguments:
            data[name] = arguments[keyword]


def _check(prompts: Mapping[str, Any]) -> None:
    """Refuse prompts whose parts do not belong together."""
    labels, points, point_labels = (prompts.get(name) for name in _KEYWORDS)
    if labels is not None and (not isinstance(labels, list) or not labels or not all(_is_whole(label) for label in labels)):
        raise ValueError(f"label_prompt is a list of class numbers, as in [1, 3]; found {labels!r}")
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError(f"label_prompt names a class twice: {labels}")
    if (points is None) != (point_labels is None):
        raise ValueError("points and point_labels belong together; one of them is missing")
    if points is not None:
        is_list = isinstance(points, list) and all(isinstance(p, list) and len(p) in (2, 3) for p in points)
        if not is_list or not points or not all(isinstance(x, int | float) and isfinite(x) for p in points for x in p):
            raise ValueError(f"points is a list of voxel coordinates, as in [[120, 88, 40]]; found {points!r}")
        if not isinstance(point_labels, list) or len(point_labels) != len(points) or not all(map(_is_whole, point_labels)):
            raise ValueError(f"point_labels has a number for each of {len(points)} points, 1 inside and 0 outside")
        if labels is not None and len(labels) != 1:
            raise ValueError("points are for one object: give one class in label_prompt")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _named_parameters(function: Callable[..., Any]) -> set[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _tensor(name: str, value: Any, image: Any, device: torch.device) -> Any:
    """A prompt as the network takes it."""
    if name == "label_prompt":
        return torch.as_tensor(value, device=device).reshape(-1, 1)
    if name == "points":
        return _moved(value, image)[None].to(device)
    if name == "point_labels":
        return torch.as_tensor(value, device=device)[None]
    return torch.as_tensor(value, device=device) if isinstance(value, list) else value


def _moved(points: Any, image: Any) -> Tensor:
    """Voxel coordinates in the image's file as voxel coordinates in the prepared image."""
    file_affine = getattr(image, "meta", {}).get("original_affine")
    if file_affine is None:
        raise ValueError("the prepared image does not say where its voxels were in the file, so points cannot be placed in it")
    move = np.linalg.inv(np.asarray(image.affine, float)) @ np.asarray(file_affine, float)
    coordinates = np.asarray(points, float)
    dims = coordinates.shape[1]
    placed = coordinates @ move[:dims, :dims].T + move[:dims, -1]
    size = np.array(image.shape[1 : 1 + dims])
    if (placed < -0.5).any() or (placed > size - 0.5).any():
        raise ValueError(f"a point lies outside of the prepared image of {'x'.join(map(str, size))} voxels")
    return torch.from_numpy(placed)
