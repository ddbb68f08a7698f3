"""Run the candidates on distorted images, labelled or not: what a gain predictor is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.network_copy import digest_of_all, in_eval_mode
from monai_tta.core.normalization import has_running_stats
from monai_tta.core.objectives import Head
from monai_tta.core.views import Views
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.inference.network import unwrap
from monai_tta.methods.careful import Careful
from monai_tta.methods.careful_candidates import UNADAPTED
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import GIVEN, CalibrationCase, CalibrationSet
from monai_tta.preparation.fit import FOLDS, check_enough_cases
from monai_tta.preparation.labelled_images import (
    HeadOrAuto,
    UsableImage,
    check_fit,
    paired_images,
    plain_tensor,
    where_labels_come_from,
)
from monai_tta.preparation.temperature import scores_by_temperature
from monai_tta.preparation.trials import KeptTrials
from monai_tta.preparation.window_pairs import look_of_images, paired_windows, preserved_by
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
        quality_only: whether nothing but the source is tried, for a quality predictor that says what its own answers are worth.
            There is then no gain predictor.

    Raises:
        ValueError: for a share outside of (0, 1), or one so small that ``size`` images cannot show it; for fewer distorted images
            than can be held out in turn, or a budget of less than one window; for ``quick`` and ``quality_only`` at once.
    """

    size: int = 160
    budget: int = 4
    harm: float = 0.03
    seed: int = 0
    method: Careful = Careful()
    quick: bool = False
    quality_only: bool = False

    @property
    def tried(self) -> Careful:
        """The method whose candidates are tried."""
        return self.source_alone if self.quality_only else self.method

    @property
    def source_alone(self) -> Careful:
        """The same that tries nothing but the source, in the same views."""
        return replace(self.method, candidates=(UNADAPTED,), views=self.views)

    @property
    def views(self) -> Views:
        """The views in which candidates answer."""
        return self.method.views_for(self.quick)

    def __post_init__(self) -> None:
        if not 0 < self.harm < 1:
            raise ValueError(f"harm is a share of cases, between 0 and 1, found {self.harm}")
        if self.quick and self.quality_only:
            raise ValueError("quick tries few candidates, and quality_only none; choose one of them")
        if not self.quality_only:
            check_enough_cases(self.size, self.harm)
        if self.size < FOLDS:
            raise ValueError(f"size is the number of distorted images, at least {FOLDS}, found {self.size}")
        if self.budget < 1:
            raise ValueError(f"budget is a number of windows, at least 1, found {self.budget}")


class Kept(int):
    """So many distorted images are done, the last of them by an earlier calibration."""


class Note(str):
    """A line of text that a person should read, about nothing that failed."""


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
    answering: Sequence[nn.Module] | None = None,
) -> Iterator[int]:
    """Distort images, run all candidates on them, and add what they gained to ``calibration``.

    Where an image has no label, the network's own answer to it is the label. Images that cannot be used, because their label is
    empty or they are constant or not finite, are left out first. Arguments and
    errors are those of `calibrate_network`; ``trials`` are those that are there already and need not be made again. Where several
    networks answer together, ``answering`` names the one that answers each image; all have the form of ``network``.

    Yields:
        after each distorted image, how many are done; as `Kept` where an earlier calibration did it.
    """
    first = in_eval_mode(unwrap(network))
    sources = [in_eval_mode(unwrap(one)) for one in answering] if answering else [first] * len(images)
    note_how(calibration, sources, settings)
    if settings.quick and not all(map(has_running_stats, sources)):
        raise ValueError("the quick way tries blends of running statistics, and this network keeps none; leave it out")
    given = [
        (plain_tensor(image).float(), None if label is None else plain_tensor(label).float())
        for image, label in paired_images(images, labels)
    ]
    calibration.labels = where_labels_come_from([label is not None for _, label in given])
    resolved_head, usable = check_fit(sources, inferer, head, given)
    calibration.look = trials.read_look() or look_of_images(inferer, usable, resolved_head, settings.budget)
    if calibration.look:
        trials.write_look(calibration.look)
    distort = Distortion(preserve=preserved_by([one.image for one in usable]))
    for number in range(settings.size):
        is_there, kept = trials.read(number)
        if is_there:
            calibration.cases += [] if kept is None else [kept]
            yield Kept(number + 1)
            continue
        group = number % len(usable)
        source = usable[group].network
        seed = settings.seed + number
        image, label = distort(usable[group].image, usable[group].label, seed)
        cut = paired_windows(source, inferer, image[None], label[None], resolved_head, settings.budget)
        made = None
        if cut is not None:
            windows, label_windows = cut
            made = run_candidates(calibration, group, source, windows, label_windows, resolved_head, settings.tried, seed)
        trials.write(number, made)
        yield number + 1
    if calibration.labels == GIVEN:
        calibration.undistorted = undistorted_cases(calibration, usable, inferer, resolved_head, settings, trials)


def undistorted_cases(
    calibration: CalibrationSet,
    images: Sequence[UsableImage],
    inferer: Callable[..., Any],
    head: Head,
    settings: CalibrationSettings,
    trials: KeptTrials,
) -> list[CalibrationCase]:
    """Answer the images as they are by the source alone: a quality predictor must know these, too.

    Args:
        calibration: whose images they are; it is not changed.
        images: those that can be used.
        inferer: cuts images into windows.
        head: what logits stand for.
        settings: of the calibration.
        trials: of the distorted images; those of these images are kept beside them.
    """
    kept = trials.of_undistorted()
    alone = replace(calibration, cases=[])
    for group, one in enumerate(images):
        is_there, case = kept.read(group)
        if not is_there:
            cut = paired_windows(one.network, inferer, one.image[None], one.label[None], head, settings.budget)
            made = (
                None
                if cut is None
                else run_candidates(alone, group, one.network, *cut, head, settings.source_alone, settings.seed)
            )
            kept.write(group, made)
        elif case is not None:
            alone.cases.append(case)
    return alone.cases


def note_how(calibration: CalibrationSet, networks: Sequence[nn.Module], settings: CalibrationSettings) -> None:
    """Note in a calibration which networks answer, and how.

    Args:
        calibration: is changed.
        networks: that answer its images, in eval mode.
        settings: of the calibration.
    """
    calibration.network = digest_of_all(networks)
    calibration.quick, calibration.views = settings.quick, settings.views


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
