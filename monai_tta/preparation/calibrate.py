"""Calibrate the gain predictor of a MONAI bundle on its labelled source data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import ResampleToMatch
from torch import Tensor

from monai_tta.pipeline.bundle_config import inference_digest
from monai_tta.pipeline.bundle_predictor import CHANGED_CONFIG
from monai_tta.pipeline.config_changes import ConfigChanges, parse_entries
from monai_tta.preparation.collect_cases import CalibrationSettings, collect_cases
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import fit_predictor
from monai_tta.preparation.source_data import load_source
from monai_tta.quality.gain_predictor import GainPredictor


def calibrate(
    root: Path,
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    settings: CalibrationSettings = CalibrationSettings(),  # noqa: B008
    keys: dict[str, Any] | None = None,
    device: str | None = None,
    config_files: Sequence[str] = (),
) -> Iterator[int | GainPredictor]:
    """Calibrate a bundle's gain predictor on its labelled source data, read by its evaluate config (with ``keys`` set).

    The same as `monai_tta.preparation.calibrate_network.calibrate_network` on the bundle's network, inferer and images.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        checkpoint: a file in the bundle's ``models`` folder.
        settings: how many images, distortions and candidates.
        keys: entries of the bundle's configs to set, as ``--set`` does.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.
        config_files: further config files, laid over the bundle's own.

    Yields:
        after each distorted image, how many are done; at last the gain predictor.

    Raises:
        BundleError: for a bundle without labelled cases.
        ValueError: for too few images, or images and labels that do not fit each other or the network.
    """
    calibration = CalibrationSet(f"{root.resolve().name}/{checkpoint}")
    yield from collect_bundle_cases(calibration, root, dataset_dir, checkpoint, settings, keys, device, config_files)
    predictor = fit_predictor(calibration, settings.harm)
    if digest := inference_digest(root, ConfigChanges.of(config_files, keys)):
        predictor.about[CHANGED_CONFIG] = digest
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
) -> Iterator[int]:
    """Add the cases of a bundle's labelled images to ``calibration``; yields and raises as `calibrate`."""
    source = load_source(root, dataset_dir, checkpoint, keys, device, config_files)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for number in range(len(source.domain)):
        case = source.domain.case(number)
        images.append(case["image"])
        labels.append(label_on_image_grid(case))
    network, inferer = source.bundle.network, source.bundle.inferer
    yield from collect_cases(calibration, network, images, labels, head=source.head, inferer=inferer, settings=settings)


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
