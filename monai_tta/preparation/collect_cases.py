"""Run the candidates on distorted images, labelled or not: what a gain predictor is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.network_copy import digest_of_all, in_eval_mode
from monai_tta.core.normalization import has_running_stats
from monai_tta.core.objectives import Head
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.inference.network import unwrap
from monai_tta.methods.careful import Careful
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import GIVEN, CalibrationCase, CalibrationSet
from monai_tta.preparation.labelled_images import (
    HeadOrAuto,
    UsableImage,
    check_fit,
    paired_images,
    plain_tensor,
    where_labels_come_from,
)
from monai_tta.preparation.source_figures import SourceFigures, measure_source
from monai_tta.preparation.temperature import scores_by_temperature
from monai_tta.preparation.trials import KeptTrials
from monai_tta.preparation.window_pairs import paired_windows, preserved_by
from monai_tta.quality.candidates import CandidatePool


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
    if settings.quick and not all(map(has_running_stats, sources)):
        raise ValueError("the quick way tries blends of running statistics, and this network keeps none; leave it out")
    given = [
        (plain_tensor(image).float(), None if label is None else plain_tensor(label).float())
        for image, label in paired_images(images, labels)
    ]
    calibration.labels = where_labels_come_from([label is not None for _, label in given])
    resolved_head, usable = check_fit(sources, inferer, head, given)
    figures = trials.read_source() or measure_source(settings, usable, inferer, resolved_head)
    if figures.look:
        trials.write_source(figures)
    note_how(calibration, sources, settings, figures)
    settings = replace(settings, method=replace(settings.method, views=figures.views))
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


def note_how(
    calibration: CalibrationSet, networks: Sequence[nn.Module], settings: CalibrationSettings, figures: SourceFigures
) -> None:
    """Note in a calibration which networks answer, and how.

    Args:
        calibration: is changed.
        networks: that answer its images, in eval mode.
        settings: of the calibration.
        figures: of the images.
    """
    calibration.network = digest_of_all(networks)
    calibration.quick, calibration.look = settings.quick, figures.look
    calibration.views, calibration.agreement = figures.views, figures.agreement


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
