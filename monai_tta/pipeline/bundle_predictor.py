"""Which method suits a bundle's checkpoint: with the gain predictor that belongs to it, where there is one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from monai_tta.core.method import AdaptationMethod
from monai_tta.core.normalization import has_running_stats
from monai_tta.methods import Careful, Source, Statistics
from monai_tta.quality.predictor_files import predictor_file

BLEND = 0.3  # the cautious share of the image's own statistics, see docs/when-to-trust.md


def safe_method(network: nn.Module, weights: Path, can_calibrate: bool = True) -> tuple[AdaptationMethod, str]:
    """The method to use where the user names none.

    `Careful` where a gain predictor was calibrated for the checkpoint; else the image's own statistics, pooled over the volume
    and blended with the source's, where the network has running statistics; else no adaptation.

    Args:
        network: the source network.
        weights: the checkpoint's file.
        can_calibrate: whether `monai-tta calibrate` could make a gain predictor for it.

    Returns:
        the method, before `AdaptationMethod.for_checkpoint`, and one line of text: which it is, and why.
    """
    predictor = predictor_file(weights)
    if predictor.is_file():
        return Careful(), f"careful, because {predictor.name} was calibrated for {weights.name}"
    lack = f"{weights.name} has no gain predictor{'; `monai-tta calibrate` makes one' if can_calibrate else ''}"
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
