"""Labelled images as a calibration needs them: whether there are enough, whether they fit the network, and their structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_tta.core.objectives import Head, head_of_channels
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.methods.source import Source
from monai_tta.preparation.fit import FOLDS, check_usable

Pairs = list[tuple[Tensor, Tensor]]  # images and their labels
HeadOrAuto = Literal["softmax", "sigmoid", "auto"]


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


def check_enough_images(n_images: int) -> None:
    """Check that there are as many labelled images as are held out in turn.

    Raises:
        ValueError: for too few.
    """
    if n_images < FOLDS:
        raise ValueError(f"found {n_images} labelled images; at least {FOLDS} are needed to calibrate on")


def paired_images(images: Sequence[Tensor], labels: Sequence[Tensor]) -> Pairs:
    """Images with their labels, on one grid each."""
    if len(images) != len(labels):
        raise ValueError(f"each image needs a label: found {len(images)} images and {len(labels)} labels")
    check_enough_images(len(images))
    pairs = list(zip(images, labels, strict=True))
    for number, (image, label) in enumerate(pairs):
        if image.ndim != label.ndim or image.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"image {number} is {tuple(image.shape)} and its label {tuple(label.shape)}: both need a channel axis first, "
                "and then the same sizes"
            )
    return pairs


def check_fit(network: nn.Module, inferer: Callable[..., Any], head: HeadOrAuto, pairs: Pairs) -> tuple[Head, Pairs]:
    """Find what does not fit, or does not suffice, before the hours of work.

    Returns:
        what the logits stand for, and the pairs that can be used.
    """
    channels = answer_channels(network, inferer, pairs[0][0])
    resolved = head_of_channels(channels) if head == "auto" else head
    usable: Pairs = []
    for number, (image, label) in enumerate(pairs):
        if image.ndim != pairs[0][0].ndim or len(image) != len(pairs[0][0]):
            raise ValueError(f"image {number} is {tuple(image.shape)}, and image 0 {tuple(pairs[0][0].shape)}: of another kind")
        try:
            in_label = bool(label_structures(label[None], channels, resolved).any())
        except ValueError as error:
            raise ValueError(f"label {number}: {error}") from None
        finite = image[image.isfinite()]
        if in_label and len(finite) and float(finite.max()) > float(finite.min()):
            usable.append((image, label))
    check_usable(len(usable), len(pairs))
    return resolved, usable


def answer_channels(network: nn.Module, inferer: Callable[..., Any], image: Tensor) -> int:
    """How many channels the answer to an image ``(C, *spatial)`` has."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        answer = AdaptiveInferer(method=Source(), inferer=inferer, main_only=True)(image[None].to(device), network)
    return int(answer.shape[1])


def plain_tensor(x: Tensor) -> Tensor:
    """Without meta data, with which networks are several times slower."""
    return torch.as_tensor(x.as_tensor() if isinstance(x, MetaTensor) else x)
