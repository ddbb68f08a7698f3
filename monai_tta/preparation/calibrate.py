"""Calibrate the gain predictor of a MONAI bundle on its labelled source data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import ResampleToMatch
from torch import Tensor

from monai_tta.core.network_copy import network_digest
from monai_tta.pipeline.bundle_config import inference_digest
from monai_tta.pipeline.bundle_predictor import CHANGED_CONFIG
from monai_tta.pipeline.config_changes import ConfigChanges, parse_entries
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.preparation.collect_cases import CalibrationSettings, Kept, collect_cases
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import check_scikit_learn, fit_predictor
from monai_tta.preparation.fit_quality import fit_quality
from monai_tta.preparation.labelled_images import check_enough_images
from monai_tta.preparation.source_data import load_source
from monai_tta.preparation.trials import KeptTrials, identity_of
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.quality_predictor import QualityPredictor


def calibrate(
    root: Path,
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    settings: CalibrationSettings = CalibrationSettings(),  # noqa: B008
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    config_files: Sequence[str] = (),
    trials: Path | None = None,
    restart: bool = False,
) -> Iterator[int | str | QualityPredictor | GainPredictor]:
    """Calibrate a bundle's gain predictor and its quality predictor on its labelled source data.

    The data are read by the bundle's evaluate config (with ``keys`` set).

    The same as `monai_tta.preparation.calibrate_network.calibrate_network` on the bundle's network, inferer and images.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        checkpoint: a file in the bundle's ``models`` folder.
        settings: how many images, distortions and candidates.
        keys: entries of the bundle's configs to set, as ``--set`` does.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        config_files: further config files, laid over the bundle's own.
        trials: a folder in which the results of trials are kept, so that a calibration goes on where it was stopped; None keeps
            none.
        restart: whether to forget those that are there.

    Yields:
        after each distorted image, how many are done (as `Kept` where an earlier calibration did it); a line of text for each
        image that cannot be read and is left out; at last the quality predictor, and then the gain predictor.

    Raises:
        BundleError: for a bundle without labelled cases.
        ImportError: when scikit-learn is not installed.
        ValueError: for too few images, or images and labels that do not fit each other or the network.
    """
    check_scikit_learn()
    calibration = CalibrationSet(f"{root.resolve().name}/{checkpoint}")
    how: dict[str, Any] = {"keys": keys, "device": device, "config_files": config_files, "trials": trials, "restart": restart}
    yield from collect_bundle_cases(calibration, root, dataset_dir, checkpoint, settings, **how)
    predictor = fit_predictor(calibration, settings.harm)
    quality = fit_quality(calibration, settings.method.views, settings.budget)
    if digest := inference_digest(root, ConfigChanges.of(config_files, keys)):
        predictor.about[CHANGED_CONFIG] = digest
        quality.about[CHANGED_CONFIG] = digest
    yield quality
    yield predictor


def collect_bundle_cases(
    calibration: CalibrationSet,
    root: Path,
    dataset_dir: Path,
    checkpoint: str,
    settings: CalibrationSettings,
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    config_files: Sequence[str] = (),
    trials: Path | None = None,
    restart: bool = False,
) -> Iterator[int | str]:
    """Add the cases of a bundle's labelled images to ``calibration``; yields and raises as `calibrate`."""
    source = load_source(root, dataset_dir, checkpoint, keys, device, config_files)
    check_enough_images(len(source.domain))
    laid_over = {**(keys or {}), "laid over": ConfigChanges.of(config_files).settings(root)}
    identity = identity_of(root, checkpoint, source.domain.items, dataset_dir, laid_over, settings) if trials else ""
    kept = KeptTrials(trials, identity)
    if restart:
        kept.forget()
    found = [kept.read(number) for number in range(settings.size)] if len(kept.numbers()) >= settings.size else []
    if found and all(is_there for is_there, _ in found):  # nothing is left to try, so no image need be read
        calibration.cases += [case for _, case in found if case is not None]
        calibration.network = network_digest(source.bundle.network)
        yield Kept(settings.size)
        return
    images: list[Tensor] = []
    labels: list[Tensor] = []
    unread: list[int] = []
    for number in range(len(source.domain)):
        try:
            case = source.domain.case(number)
            image, label = case["image"], label_on_image_grid(case)
        except Exception as error:  # one file that cannot be read must not cost the others
            unread.append(number)
            yield f"labelled image {number + 1} of {len(source.domain)} is left out: {describe_error(error)}"
            continue
        images.append(image)
        labels.append(label)
    if unread and trials:  # these trials are of other images
        kept = KeptTrials(trials, f"{identity}-without-{'-'.join(map(str, unread))}"[:200])
    network, inferer = source.bundle.network, source.bundle.inferer
    yield from collect_cases(
        calibration, network, images, labels, head=source.head, inferer=inferer, settings=settings, trials=kept
    )


def parse_keys(texts: Sequence[str]) -> dict[str, Any]:
    """Texts like "KEY=VALUE" as entries of a config, see `monai_tta.pipeline.config_changes.parse_entries`.

    Raises:
        ValueError: for one without a name or a value.
    """
    return parse_entries(texts)


def label_on_image_grid(case: dict[str, Any]) -> Tensor:
    """A case's label ``(L, *spatial)`` on the grid of the image that the network is given."""
    label = case["label"]
    if label.shape[1:] != case["image"].shape[1:]:
        label = ResampleToMatch(mode="nearest", padding_mode="zeros")(label, case["image"])
    return torch.as_tensor(label.as_tensor() if hasattr(label, "as_tensor") else label).float()
