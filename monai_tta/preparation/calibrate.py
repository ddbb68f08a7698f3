"""Calibrate the gain predictor of a MONAI bundle on images of its source, labelled or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_tta.pipeline.bundle_config import inference_digest
from monai_tta.pipeline.bundle_predictor import CHANGED_CONFIG
from monai_tta.pipeline.config_changes import ConfigChanges, parse_entries
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import Kept, Note, collect_cases, note_how
from monai_tta.preparation.examples import GIVEN, CalibrationSet
from monai_tta.preparation.fit import check_scikit_learn, fit_predictor
from monai_tta.preparation.fit_quality import NEEDS_LABELS, fit_quality
from monai_tta.preparation.labelled_images import check_enough_images, where_labels_come_from
from monai_tta.preparation.source_figures import SourceFigures
from monai_tta.preparation.source_images import open_source_images
from monai_tta.preparation.trained_views import settings_for_source
from monai_tta.preparation.trials import KeptTrials, identity_of
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.quality_predictor import QualityPredictor


def calibrate(
    root: Path,
    dataset_dir: Path | None = None,
    checkpoint: str = "model.pt",
    settings: CalibrationSettings = CalibrationSettings(),  # noqa: B008
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    config_files: Sequence[str] = (),
    trials: Path | None = None,
    restart: bool = False,
    images: Sequence[Path] = (),
    names: Sequence[str] = (),
) -> Iterator[int | str | QualityPredictor | GainPredictor]:
    """Calibrate a bundle's gain predictor and its quality predictor on images of its source.

    Unlabelled images are read by its inference config, and the network's own answers to them are their labels. Labelled ones are
    listed and read by its evaluate config. An image that is among both counts once, with its label. Otherwise the same as
    `monai_tta.preparation.calibrate_network.calibrate_network` on the bundle's network, inferer and images.

    Args:
        root: the folder of the bundle, or of an nnU-Net.
        dataset_dir: the folder with the images and labels that the bundle's evaluate config names; of an nnU-Net a folder of
            nnUNet_raw; None where there are none.
        checkpoint: a file in the bundle's ``models`` folder; as for `monai_tta.pipeline.source_files.weights_files`.
        settings: how many images, distortions and candidates.
        keys: entries of the bundle's configs to set, as ``--set`` does.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        config_files: further config files, laid over the bundle's own.
        trials: a folder in which the results of trials are kept, so that a calibration goes on where it was stopped; None keeps
            none.
        restart: whether to forget those that are there.
        images: unlabelled images of the source: files, or folders of DICOM series.
        names: what messages call them; their files' names if empty.

    Yields:
        after each distorted image, how many are done (as `Kept` where an earlier calibration did it); a line of text for each
        image that cannot be read and is left out; a `Note` of what is done on purpose; at last the quality predictor, where every
        image has a label, and then the gain predictor, unless the settings are for quality alone.

    Raises:
        BundleError: for a bundle without labelled cases where a ``dataset_dir`` is given.
        ImportError: when scikit-learn is not installed.
        ValueError: for too few images, or images and labels that do not fit each other or the network; for quality alone where
            an image has no label.
    """
    check_scikit_learn()
    settings = settings_for_source(root, settings)
    calibration = CalibrationSet(f"{root.resolve().name}/{checkpoint}")
    how: dict[str, Any] = {"keys": keys, "device": device, "config_files": config_files, "trials": trials, "restart": restart}
    how |= {"images": images, "names": names}
    yield from collect_bundle_cases(calibration, root, dataset_dir, checkpoint, settings, **how)
    predictors: list[QualityPredictor | GainPredictor] = []
    if calibration.labels == GIVEN or settings.quality_only:
        predictors.append(fit_quality(calibration, settings.budget))
    if not settings.quality_only:
        predictors.append(fit_predictor(calibration, settings.harm))
    if digest := inference_digest(root, ConfigChanges.of(config_files, keys)):
        for predictor in predictors:
            predictor.about[CHANGED_CONFIG] = digest
    yield from predictors


def collect_bundle_cases(
    calibration: CalibrationSet,
    root: Path,
    dataset_dir: Path | None,
    checkpoint: str,
    settings: CalibrationSettings,
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    config_files: Sequence[str] = (),
    trials: Path | None = None,
    restart: bool = False,
    images: Sequence[Path] = (),
    names: Sequence[str] = (),
) -> Iterator[int | str]:
    """Add the cases of a bundle's images to ``calibration``; yields and raises as `calibrate`."""
    changes = ConfigChanges.of(config_files, keys)
    with open_source_images(root, dataset_dir, checkpoint, device, changes, images, names) as source:
        yield from map(Note, source.left_out)
        answering = source.answering()
        calibration.labels = where_labels_come_from([image.has_label for image in source.images])
        if settings.quality_only and calibration.labels != GIVEN:
            raise ValueError(NEEDS_LABELS)
        check_enough_images(len(source.images), calibration.labels)
        laid_over = {**(keys or {}), "laid over": ConfigChanges.of(config_files).settings(root)}
        contents = [image.content for image in source.images]
        identity = identity_of(root, checkpoint, contents, dataset_dir, laid_over, settings) if trials else ""
        kept = KeptTrials(trials, identity)
        if restart:
            kept.forget()
            kept.of_undistorted().forget()
        figures = _take_kept(calibration, kept, settings.size)
        if figures:  # nothing is left to try: no image need be read
            note_how(calibration, answering, settings, figures)
            yield Kept(settings.size)
            return
        pairs: list[tuple[Tensor, Tensor | None]] = []
        unread: list[int] = []
        for number, image in enumerate(source.images):
            try:
                pairs.append(image.read())
            except Exception as error:  # one file that cannot be read must not cost the others
                unread.append(number)
                yield f"{image.called} is left out: {describe_error(error)}"
    if unread and trials:  # these trials are of other images
        kept = KeptTrials(trials, f"{identity}-without-{'-'.join(map(str, unread))}"[:200])
    read = [image for image, _ in pairs]
    labels = [label for _, label in pairs]
    answering = [network for number, network in enumerate(answering) if number not in unread]
    how: dict[str, Any] = {"head": source.head, "inferer": source.bundle.inferer, "settings": settings, "trials": kept}
    yield from collect_cases(calibration, source.bundle.network, read, labels, **how, answering=answering)


def _take_kept(calibration: CalibrationSet, kept: KeptTrials, size: int) -> SourceFigures | None:
    """Take everything from an earlier calibration; None, and no case, where something is left to try."""
    figures = kept.read_source()
    if figures is None:
        return None
    distorted = kept.read_first(size)
    undistorted = kept.of_undistorted().read_first(figures.images if calibration.labels == GIVEN else 0)
    if distorted is None or undistorted is None:
        return None
    calibration.cases += distorted
    calibration.undistorted = undistorted
    return figures


def parse_keys(texts: Sequence[str]) -> dict[str, Any]:
    """Texts like "KEY=VALUE" as entries of a config, see `monai_tta.pipeline.config_changes.parse_entries`.

    Raises:
        ValueError: for one without a name or a value.
    """
    return parse_entries(texts)
