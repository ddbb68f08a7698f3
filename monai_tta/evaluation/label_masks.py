"""A case's label as masks that an answer can be compared with: one for each structure, on the grid that the network is given."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import ResampleToMatch
from torch import Tensor

from monai_tta.core.objectives import Head


def label_structures(label: Tensor, channels: int, head: Head) -> Tensor:
    """A label as one boolean channel per structure that the network segments.

    Args:
        label: class numbers ``(N, 1, *spatial)``, or one channel per structure, or per class with the background first.
        channels: of the network's answer.
        head: what its logits stand for.

    Returns:
        ``(N, structures, *spatial)``; a softmax answer has one channel more than structures, the background.

    Raises:
        ValueError: for a label of another kind.
    """
    structures = channels - 1 if head == "softmax" else channels
    largest = float(label.max())
    if label.shape[1] == structures and (structures > 1 or largest <= 1):
        return label > 0.5
    if head == "softmax" and label.shape[1] == channels:
        return label[:, 1:] > 0.5
    if label.shape[1] == 1 and largest <= structures:
        return F.one_hot(label[:, 0].long(), structures + 1).movedim(-1, 1)[:, 1:] > 0
    raise ValueError(
        f"the labels have {label.shape[1]} channel(s) with values up to {largest:g}, and the network segments {structures} "
        "structure(s): give class numbers, or one channel for each structure"
    )


def label_on_image_grid(case: dict[str, Any]) -> Tensor:
    """A case's label ``(L, *spatial)`` on the grid of the image that the network is given."""
    label = case["label"]
    if label.shape[1:] != case["image"].shape[1:]:
        label = ResampleToMatch(mode="nearest", padding_mode="zeros")(label, case["image"])
    return torch.as_tensor(label.as_tensor() if hasattr(label, "as_tensor") else label).float()
