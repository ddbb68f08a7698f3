"""Run the candidates on distorted labelled images: what a gain predictor is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_tta.core.answer_form import logits_of
from monai_tta.core.network_copy import in_eval_mode
from monai_tta.core.objectives import Head, head_of_channels
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.inference.network import unwrap
from monai_tta.inference.window_selection import WindowSelector
from monai_tta.methods.careful import Careful
from monai_tta.methods.source import Source
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import FOLDS, check_enough_cases
from monai_tta.quality.candidates import CandidatePool

HeadOrAuto = Literal["softmax", "sigmoid", "auto"]


@dataclass(frozen=True)
class CalibrationSettings:
    """How thoroughly a network is calibrated, and how much harm its gain predictor may do.

    Args:
        size: how many distorted images are made.
        budget: how many adaptation windows each of them has at most.
        harm: the largest share of distorted images that may lose more than a point of Dice. It is measured on images that were
            held out of the fit.
        seed: the same seed makes the same distorted images.
        method: whose candidates and views are used.

    Raises:
        ValueError: for a share outside of (0, 1), or one so small that ``size`` images cannot show it.
    """

    size: int = 160
    budget: int = 4
    harm: float = 0.03
    seed: int = 0
    method: Careful = Careful()

    def __post_init__(self) -> None:
        if not 0 < self.harm < 1:
            raise ValueError(f"harm is a share of cases, between 0 and 1, found {self.harm}")
        check_enough_cases(self.size, self.harm)


def collect_cases(
    calibration: CalibrationSet,
    network: nn.Module,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    head: HeadOrAuto,
    inferer: Callable[..., Any],
    settings: CalibrationSettings,
) -> Iterator[int]:
    """Distort labelled images, run all candidates on them, and add what they gained to ``calibration``.

    Arguments and errors are those of `calibrate_network`.

    Yields:
        after each distorted image, how many are done.
    """
    source = in_eval_mode(unwrap(network))
    pairs = [(plain_tensor(image).float(), plain_tensor(label).float()) for image, label in _paired(images, labels)]
    resolved_head = _check_fit(source, inferer, head, pairs)
    distort = Distortion(preserve=preserved_by([image for image, _ in pairs]))
    for number in range(settings.size):
        group = number % len(pairs)
        seed = settings.seed + number
        image, label = distort(*pairs[group], seed)
        cut = paired_windows(source, inferer, image[None], label[None], resolved_head, settings.budget)
        if cut is not None:
            windows, label_windows = cut
            run_candidates(calibration, group, source, windows, label_windows, resolved_head, settings.method, seed)
        yield number + 1


def run_candidates(
    calibration: CalibrationSet,
    group: int,
    source: nn.Module,
    windows: Tensor,
    label: Tensor,
    head: Head,
    method: Careful,
    seed: int,
) -> None:
    """Run all candidates on the adaptation windows of one case, and add what they gained to ``calibration``.

    Args:
        calibration: what the case is added to.
        group: number of the image that was distorted.
        source: the network in eval mode.
        windows: ``(N, C, *spatial)``.
        label: of the windows, ``(N, L, *spatial)``.
        head: what the network's logits stand for.
        method: whose candidates are run.
        seed: of all that is random in them.
    """
    pool = CandidatePool(source, head)
    pool.seed(seed)
    with torch.enable_grad():
        results = method.run_candidates(pool, windows)
    unadapted = results.unadapted.cpu()
    calibration.add(
        group,
        results.source_features.cpu(),
        results.features.cpu(),
        torch.stack([trial.answer.probabilities.cpu() for trial in results.trials]),
        unadapted,
        label_structures(label.cpu(), unadapted.shape[1], head),
        head,
    )


def paired_windows(
    network: nn.Module, inferer: Callable[..., Any], image: Tensor, label: Tensor, head: Head, budget: int
) -> tuple[Tensor, Tensor] | None:
    """Select the adaptation windows of an image as `AdaptiveInferer` does, and cut its label alike.

    Args:
        network: the source, in eval mode.
        inferer: cuts the image into windows.
        image: ``(1, C, *spatial)``.
        label: ``(1, L, *spatial)``.
        head: what the network's logits stand for.
        budget: how many windows at most.

    Returns:
        windows ``(N, C, *spatial)`` and their labels ``(N, L, *spatial)``; None where no window can be adapted on.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    channels = image.shape[1]
    selector = WindowSelector(budget)
    with_labels: list[Tensor] = []

    def keep(windows: Tensor, *_: Any, **__: Any) -> Tensor:
        """Take the network's place: note every window with its label, and answer anything."""
        own = plain_tensor(windows).detach().clone()
        with_labels.extend(own.split(1))
        selector.offer(own[:, :channels].contiguous())
        return windows[:, :1]

    with torch.no_grad():
        inferer(torch.cat([image, label], 1).to(device), keep)
        selected = selector.select(partial(logits_of, network, head=head), head)
    if not selected:
        return None
    both = torch.cat([next(w for w in with_labels if torch.equal(w[:, :channels], chosen)) for chosen in selected])
    return both[:, :channels].contiguous(), both[:, channels:]


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


def preserved_by(images: Sequence[Tensor]) -> Literal["moments", "range"]:
    """What preprocessing keeps the same in every image: "moments" (mean 0 and standard deviation 1) or else the "range"."""
    for image in images:
        if abs(float(image.mean())) >= 0.1 or abs(float(image.std()) - 1) >= 0.1:
            return "range"
    return "moments"


def _paired(images: Sequence[Tensor], labels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Images with their labels, on one grid each."""
    if len(images) != len(labels):
        raise ValueError(f"each image needs a label: found {len(images)} images and {len(labels)} labels")
    if len(images) < FOLDS:
        raise ValueError(f"found {len(images)} labelled images; at least {FOLDS} are needed to calibrate on")
    pairs = list(zip(images, labels, strict=True))
    for number, (image, label) in enumerate(pairs):
        if image.ndim != label.ndim or image.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"image {number} is {tuple(image.shape)} and its label {tuple(label.shape)}: both need a channel axis first, "
                "and then the same sizes"
            )
    return pairs


def _check_fit(network: nn.Module, inferer: Callable[..., Any], head: HeadOrAuto, pairs: Any) -> Head:
    """Segment the first image, so that whatever does not fit the network is found before the hours of work; resolve the head."""
    channels = answer_channels(network, inferer, pairs[0][0])
    resolved = head_of_channels(channels) if head == "auto" else head
    for number, (_, label) in enumerate(pairs):
        try:
            label_structures(label[None], channels, resolved)
        except ValueError as error:
            raise ValueError(f"label {number}: {error}") from None
    return resolved


def answer_channels(network: nn.Module, inferer: Callable[..., Any], image: Tensor) -> int:
    """How many channels the answer to an image ``(C, *spatial)`` has."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        answer = AdaptiveInferer(method=Source(), inferer=inferer, main_only=True)(image[None].to(device), network)
    return int(answer.shape[1])


def plain_tensor(x: Tensor) -> Tensor:
    """Without meta data, with which networks are several times slower."""
    return torch.as_tensor(x.as_tensor() if isinstance(x, MetaTensor) else x)
