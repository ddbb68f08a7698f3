"""Which method suits a bundle's checkpoint, and what says what its masks are worth: by the predictors that belong to it."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from monai_tta.core.method import AdaptationMethod
from monai_tta.core.network_copy import in_eval_mode
from monai_tta.core.normalization import has_running_stats
from monai_tta.inference.network import unwrap
from monai_tta.methods import Careful, Source, Statistics
from monai_tta.pipeline.bundle_config import BundleError, inference_digest
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.predictor_files import as_quality_predictor, predictor_file, quality_file, read_predictor
from monai_tta.quality.quality_predictor import QualityPredictor

CHANGED_CONFIG = "config changed to"  # what a predictor's `about` calls the hash of a config with --set and --config
BLEND = 0.3  # the cautious share of the image's own statistics, see docs/when-to-trust.md


def safe_method(network: nn.Module, weights: Path) -> tuple[AdaptationMethod, str]:
    """The method to use where the user names none.

    `Careful` where a gain predictor was calibrated for the checkpoint; no adaptation where that one is of no use, because it
    gained nothing on held-out cases or harmed too many. Without a gain predictor: the image's own statistics, pooled over the
    volume and blended with the source's, where the network has running statistics; else no adaptation.

    Args:
        network: the source network.
        weights: the checkpoint's file.

    Returns:
        the method, before `AdaptationMethod.for_checkpoint`, and one line of text: which it is, and why.

    Raises:
        PredictorError: for a gain predictor's file that cannot be read.
    """
    predictor = predictor_file(weights)
    if predictor.is_file():
        if useless := read_predictor(predictor).useless_because():
            why = f"{predictor.name} was calibrated for {weights.name} and is of no use: {useless}"
            return Source(), f"source (no adaptation), because {why}"
        return Careful(), f"careful, because {predictor.name} was calibrated for {weights.name}"
    lack = f"{weights.name} has no gain predictor; `monai-tta calibrate` makes one"
    if has_running_stats(network):
        which = f"statistics, pooled over the volume and blended {BLEND}"
        return Statistics(statistics="volume", blend=BLEND), f"{which}, because the network has running statistics and {lack}"
    return Source(), f"source (no adaptation), because the network has no running statistics to blend with and {lack}"


def careful_of(bundle_root: str, checkpoint: str = "model.pt") -> AdaptationMethod:
    """`Careful` with the gain predictor of a bundle's checkpoint, for a config's ``_target_``.

    Args:
        bundle_root: the folder of the bundle.
        checkpoint: a file in its ``models`` folder.

    Raises:
        PredictorError: for a gain predictor's file that cannot be read.
    """
    return Careful().for_checkpoint(Path(bundle_root) / "models" / checkpoint)


def check_predictor_config(weights: Path, method: AdaptationMethod, root: Path, changes: ConfigChanges) -> None:
    """Refuse a checkpoint's gain predictor that was calibrated with another config than the one it is to be used with.

    Args:
        weights: the checkpoint's file.
        method: what may use the predictor, after `AdaptationMethod.for_checkpoint`.
        root: the bundle's folder.
        changes: what is laid over the bundle's config.

    Raises:
        BundleError: when the two differ.
    """
    file = predictor_file(weights)
    if not file.is_file() or os.path.realpath(file) not in [os.path.realpath(used) for used in method.files]:
        return
    if read_predictor(file).about.get(CHANGED_CONFIG, "") != inference_digest(root, changes):
        raise BundleError(
            f"{file.name} was calibrated with other changes of the config (--set, --config) than are given now: give the same, "
            "calibrate again, or choose another method"
        )


def find_quality(
    network: nn.Module,
    weights: Path,
    root: Path,
    changes: ConfigChanges,
    named: Path | None = None,
) -> tuple[QualityPredictor | None, str | None]:
    """The quality predictor for a bundle's checkpoint.

    Args:
        network: the source network, with these weights.
        weights: the checkpoint's file.
        root: the bundle's folder.
        changes: what is laid over the bundle's config.
        named: the predictor's file; None for the one beside the checkpoint.

    Returns:
        the predictor, and None; or None, and why there is none.

    Raises:
        PredictorError: for a file that cannot be read, or a named one that does not fit the network or the config.
    """
    file = quality_file(weights) if named is None else named
    if named is None and not file.is_file():
        return None, f"{weights.name} has no quality predictor; `monai-tta calibrate` makes one"
    predictor = as_quality_predictor(file)
    assert predictor is not None
    lack = None
    if not predictor.fits(in_eval_mode(unwrap(network))):
        lack = f"{file.name} was fitted to another network or other weights than {weights.name}; calibrate again"
    elif predictor.about.get(CHANGED_CONFIG, "") != inference_digest(root, changes):
        lack = f"{file.name} was fitted with other changes of the config (--set, --config) than are given now; calibrate again"
    if lack is not None and named is not None:
        raise PredictorError(lack)
    return (predictor, None) if lack is None else (None, lack)
