"""In which views a network is calibrated where nobody says which its training showed: those that it answers as the plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from monai_tta.core.label_free_metrics import hard_masks, voxels_last
from monai_tta.core.objectives import Head
from monai_tta.core.tasks import answers_of_views
from monai_tta.core.views import View, Views
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.labelled_images import UsableImage
from monai_tta.preparation.window_pairs import paired_windows
from monai_tta.quality.candidates import CandidatePool
from monai_tta.quality.signals import pairwise_dice

AGREEMENT = 0.8  # Dice of a view's answer with that of the window as it is; a network that knows the pose reaches it
ENOUGH = 20  # images


def measured_views(
    settings: CalibrationSettings, images: Sequence[UsableImage], inferer: Callable[..., Any], head: Head
) -> tuple[Views, str]:
    """The views that the source answers like the plain one on its own, undistorted images.

    A network answers poses that training never showed badly, whatever the image: there, views that differ say nothing of the
    answer. So a mirror is kept where the median over images of its answer's Dice with the plain answer, both brought to one pose,
    is `AGREEMENT` or more. Quarter turns are kept all or none. The quick way keeps one mirror at most, and no turns.

    Args:
        settings: of the calibration. Axes that they name are kept, and whether there are turns where they say so: what is named
            is not measured.
        images: of the source; the first `ENOUGH` are looked at.
        inferer: cuts images into windows.
        head: what logits stand for.

    Returns:
        the views, and in words how far each pose agrees that was measured; no words where none was.
    """
    asked = settings.method.views
    if asked.mirrors == "all":
        return settings.views, ""
    measured = Views(axes=() if asked.axes is not None else None, turns=False if asked.turns is not None else None)
    of_poses = _agreements(measured, images[:ENOUGH], inferer, head, settings.budget)
    if not of_poses:
        return settings.views, ""
    found = {pose: median(of_pose) for pose, of_pose in of_poses.items()}
    axes = tuple(pose.mirrors[0] for pose, agreement in found.items() if pose.mirrors and agreement >= AGREEMENT)
    axes = axes[:1] if settings.quick else axes
    of_turns = [agreement for pose, agreement in found.items() if pose.turns]
    turns = bool(of_turns) and min(of_turns) >= AGREEMENT and not settings.quick
    kept = {pose: turns if pose.turns else pose.mirrors[0] in axes for pose in found}
    said = [f"{_in_words(pose)} {dice:.2f}{'' if kept[pose] else ' (left out)'}" for pose, dice in found.items()]
    return asked.or_else(Views(axes=axes, turns=turns)), "; ".join(said)


def _agreements(
    measured: Views, images: Sequence[UsableImage], inferer: Callable[..., Any], head: Head, budget: int
) -> dict[View, list[float]]:
    """Of each pose of these views but the plain one, a Dice for each image in which the network finds anything."""
    found: dict[View, list[float]] = {}
    for one in images:
        cut = paired_windows(one.network, inferer, one.image[None], one.label[None], head, budget)
        if cut is None:
            continue
        windows = cut[0]
        poses = measured.of(windows.shape[2:])[1:]
        if not poses:
            return {}
        with torch.no_grad():
            plain, *others = _masks(one, windows, measured, head)
        if plain.any():
            for pose, mask in zip(poses, others, strict=True):
                found.setdefault(pose, []).append(pairwise_dice([plain, mask]))
    return found


def _masks(one: UsableImage, windows: Tensor, views: Views, head: Head) -> list[Tensor]:
    """The source's masks of windows in each pose, back in the windows' own: boolean ``(structures, voxels)``."""
    answers = answers_of_views(CandidatePool(one.network, head), windows, views)
    return [voxels_last(hard_masks(answer, head)) for answer in answers]


def _in_words(pose: View) -> str:
    return f"turned {pose.turns} x 90 degrees" if pose.turns else f"mirrored along axis {pose.mirrors[0]}"
