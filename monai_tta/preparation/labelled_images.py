"""Images as a calibration needs them: whether there are enough, and whether they fit the network.

Where an image has no label, the network's own answer to it takes the label's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_tta.core.answer_form import AnswerReader
from monai_tta.core.objectives import Head, head_of_channels
from monai_tta.core.objectives import labels as hard_labels
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.methods.source import Source
from monai_tta.preparation.examples import GIVEN, OWN_ANSWERS
from monai_tta.preparation.fit import FOLDS, check_usable

Pairs = list[tuple[Tensor, Tensor | None]]  # images and their labels
HeadOrAuto = Literal["softmax", "sigmoid", "auto"]


@dataclass(frozen=True, eq=False)
class UsableImage:
    """An image that can be calibrated on.

    Args:
        image: ``(C, *spatial)``.
        label: on its grid, ``(L, *spatial)``.
        network: that answers it, in eval mode.
    """

    image: Tensor
    label: Tensor
    network: nn.Module


def where_labels_come_from(has_label: Sequence[bool]) -> str:
    """What gains are measured against, in words, see `monai_tta.preparation.examples.CalibrationSet`."""
    without = len(has_label) - sum(has_label)
    if not without:
        return GIVEN
    return OWN_ANSWERS if without == len(has_label) else f"{GIVEN} for {sum(has_label)} images, {OWN_ANSWERS} for {without}"


def check_enough_images(n_images: int, labels: str = GIVEN) -> None:
    """Check that there are as many images as are held out in turn.

    Raises:
        ValueError: for too few.
    """
    if n_images < FOLDS:
        what = "labelled images" if labels == GIVEN else "images"
        raise ValueError(f"found {n_images} {what}; at least {FOLDS} are needed to calibrate on")


def paired_images(images: Sequence[Tensor], labels: Sequence[Tensor | None] | None) -> Pairs:
    """Images with their labels, on one grid each; None for labels that are not there."""
    labels = [None] * len(images) if labels is None else labels
    if len(images) != len(labels):
        raise ValueError(f"each image needs a label: found {len(images)} images and {len(labels)} labels")
    check_enough_images(len(images), where_labels_come_from([label is not None for label in labels]))
    pairs = list(zip(images, labels, strict=True))
    for number, (image, label) in enumerate(pairs):
        if label is None:
            continue
        if image.ndim != label.ndim or image.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"image {number} is {tuple(image.shape)} and its label {tuple(label.shape)}: both need a channel axis first, "
                "and then the same sizes"
            )
    return pairs


def check_fit(
    networks: Sequence[nn.Module], inferer: Callable[..., Any], head: HeadOrAuto, pairs: Pairs
) -> tuple[Head, list[UsableImage]]:
    """Find what does not fit, or does not suffice, before the hours of work. Networks answer images without a label.

    Args:
        networks: for each image the one that answers it, in eval mode.
        inferer: cuts images into windows.
        head: what the networks' logits stand for.
        pairs: the images, and their labels where there are any.

    Returns:
        what the logits stand for, and the images that can be used, all with a label.
    """
    channels = answer_channels(networks[0], inferer, pairs[0][0])
    resolved = head_of_channels(channels) if head == "auto" else head
    usable: list[UsableImage] = []
    for number, (network, (image, label)) in enumerate(zip(networks, pairs, strict=True)):
        if image.ndim != pairs[0][0].ndim or len(image) != len(pairs[0][0]):
            raise ValueError(f"image {number} is {tuple(image.shape)}, and image 0 {tuple(pairs[0][0].shape)}: of another kind")
        label = own_answer(network, inferer, image, resolved) if label is None else label
        try:
            in_label = bool(label_structures(label[None], channels, resolved).any())
        except ValueError as error:
            raise ValueError(f"label {number}: {error}") from None
        finite = image[image.isfinite()]
        if in_label and len(finite) and float(finite.max()) > float(finite.min()):
            usable.append(UsableImage(image, label, network))
    check_usable(len(usable), len(pairs), where_labels_come_from([label is not None for _, label in pairs]))
    return resolved, usable


def answer_channels(network: nn.Module, inferer: Callable[..., Any], image: Tensor) -> int:
    """How many channels the answer to an image ``(C, *spatial)`` has."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        answer = AdaptiveInferer(method=Source(), inferer=inferer, main_only=True)(image[None].to(device), network)
    return int(answer.shape[1])


def own_answer(network: nn.Module, inferer: Callable[..., Any], image: Tensor, head: Head) -> Tensor:
    """The network's own answer to a whole image, as a label: class numbers ``(1, *spatial)``, or structures ``(K, *spatial)``.

    Args:
        network: in eval mode.
        inferer: cuts the image into windows.
        image: ``(C, *spatial)``.
        head: what the network's logits stand for.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    reader = AnswerReader(type(network).__name__)

    def main_output(windows: Tensor, *_: Any, **__: Any) -> Tensor:
        main: Tensor = reader.main(reader.ask(partial(network, windows), windows))
        return main

    with torch.no_grad():
        answer = inferer(image[None].to(device), main_output)
    logits = answer if reader.form is None else reader.form.logits(answer, head)
    return hard_labels(logits, head)[0].float().cpu()


def plain_tensor(x: Tensor) -> Tensor:
    """Without meta data, with which networks are several times slower."""
    return torch.as_tensor(x.as_tensor() if isinstance(x, MetaTensor) else x)
