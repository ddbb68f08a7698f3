"""Run the candidates on distorted images, labelled or not: what a gain predictor is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_tta.core.answer_form import logits_of
from monai_tta.core.network_copy import in_eval_mode, network_digest
from monai_tta.core.normalization import has_running_stats
from monai_tta.core.objectives import Head
from monai_tta.core.source_look import SourceLook, backgrounds_of, look_of, mean_look
from monai_tta.core.views import Views
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.inference.network import unwrap
from monai_tta.inference.window_selection import WindowSelector
from monai_tta.methods.careful import Careful
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import CalibrationCase, CalibrationSet
from monai_tta.preparation.fit import FOLDS, check_enough_cases
from monai_tta.preparation.labelled_images import (
    HeadOrAuto,
    LabelledPairs,
    check_fit,
    paired_images,
    plain_tensor,
    where_labels_come_from,
)
from monai_tta.preparation.temperature import scores_by_temperature
from monai_tta.preparation.trials import KeptTrials
from monai_tta.quality.candidates import CandidatePool


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
        quick: whether few candidates are tried in few views, then and whenever the gain predictor is used: a fifth of the time.
            For networks with running statistics.

    Raises:
        ValueError: for a share outside of (0, 1), or one so small that ``size`` images cannot show it; for fewer distorted images
            than can be held out in turn, or a budget of less than one window.
    """

    size: int = 160
    budget: int = 4
    harm: float = 0.03
    seed: int = 0
    method: Careful = Careful()
    quick: bool = False

    @property
    def views(self) -> Views:
        """The views in which candidates answer."""
        return self.method.views_for(self.quick)

    def __post_init__(self) -> None:
        if not 0 < self.harm < 1:
            raise ValueError(f"harm is a share of cases, between 0 and 1, found {self.harm}")
        check_enough_cases(self.size, self.harm)
        if self.size < FOLDS:
            raise ValueError(f"size is the number of distorted images, at least {FOLDS}, found {self.size}")
        if self.budget < 1:
            raise ValueError(f"budget is a number of windows, at least 1, found {self.budget}")


class Kept(int):
    """So many distorted images are done, the last of them by an earlier calibration."""


def collect_cases(
    calibration: CalibrationSet,
    network: nn.Module,
    images: Sequence[Tensor],
    labels: Sequence[Tensor | None] | None,
    *,
    head: HeadOrAuto,
    inferer: Callable[..., Any],
    settings: CalibrationSettings,
    trials: KeptTrials = KeptTrials(None),  # noqa: B008
) -> Iterator[int]:
    """Distort images, run all candidates on them, and add what they gained to ``calibration``.

    Where an image has no label, the network's own answer to it is the label. Images that cannot be used, because their label is
    empty or they are constant or not finite, are left out first. Arguments and
    errors are those of `calibrate_network`; ``trials`` are those that are there already and need not be made again.

    Yields:
        after each distorted image, how many are done; as `Kept` where an earlier calibration did it.
    """
    source = in_eval_mode(unwrap(network))
    calibration.network = network_digest(source)
    calibration.quick = settings.quick
    if settings.quick and not has_running_stats(source):
        raise ValueError("the quick way tries blends of running statistics, and this network keeps none; leave it out")
    given = [
        (plain_tensor(image).float(), None if label is None else plain_tensor(label).float())
        for image, label in paired_images(images, labels)
    ]
    calibration.labels = where_labels_come_from([label is not None for _, label in given])
    resolved_head, pairs = check_fit(source, inferer, head, given)
    calibration.look = trials.read_look() or look_of_images(source, inferer, pairs, resolved_head, settings.budget)
    if calibration.look:
        trials.write_look(calibration.look)
    distort = Distortion(preserve=preserved_by([image for image, _ in pairs]))
    for number in range(settings.size):
        is_there, kept = trials.read(number)
        if is_there:
            calibration.cases += [] if kept is None else [kept]
            yield Kept(number + 1)
            continue
        group = number % len(pairs)
        seed = settings.seed + number
        image, label = distort(*pairs[group], seed)
        cut = paired_windows(source, inferer, image[None], label[None], resolved_head, settings.budget)
        made = None
        if cut is not None:
            windows, label_windows = cut
            made = run_candidates(calibration, group, source, windows, label_windows, resolved_head, settings.method, seed)
        trials.write(number, made)
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
) -> CalibrationCase | None:
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

    Returns:
        the case; None where it is left out, because nothing is in its label.
    """
    pool = CandidatePool(source, head)
    pool.seed(seed)
    with torch.enable_grad():
        results = method.run_candidates(pool, windows, look=calibration.look, quick=calibration.quick)
    unadapted = results.unadapted.cpu()
    structures = label_structures(label.cpu(), unadapted.shape[1], head)
    return calibration.add(
        group,
        results.source_features.cpu(),
        results.features.cpu(),
        torch.stack([trial.answer.probabilities.cpu() for trial in results.trials]),
        unadapted,
        structures,
        head,
        results.structure_features,
        scores_by_temperature(unadapted, structures, head),
    )


def look_of_images(
    source: nn.Module, inferer: Callable[..., Any], pairs: LabelledPairs, head: Head, budget: int
) -> SourceLook | None:
    """The mean look of the source's undistorted images, by the adaptation windows of each; None where none has any."""
    looks = []
    for image, label in pairs:
        cut = paired_windows(source, inferer, image[None], label[None], head, budget)
        if cut is not None:
            looks.append(look_of(cut[0], backgrounds_of(cut[0])))
    return mean_look(looks) if looks else None


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


def preserved_by(images: Sequence[Tensor]) -> Literal["moments", "range"]:
    """What preprocessing keeps the same in every image: "moments" (mean 0 and standard deviation 1) or else the "range"."""
    for image in images:
        if abs(float(image.mean())) >= 0.1 or abs(float(image.std()) - 1) >= 0.1:
            return "range"
    return "moments"
