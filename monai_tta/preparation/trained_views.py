"""The views in which a network is calibrated: those that it was trained on, where that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from monai_tta.core.views import Views
from monai_tta.evaluation.protocol import has_protocol, protocol_of
from monai_tta.preparation.calibration_settings import CalibrationSettings


def settings_for_source(root: Path, settings: CalibrationSettings) -> CalibrationSettings:
    """Settings whose views mirror along the axes that training mirrored along: as a bundle's ``configs/compare.yaml`` or an
    nnU-Net's plans say. Of turns they say nothing, so these are measured.

    A network answers poses that it never saw badly, whatever the image: there, views that differ say nothing of the answer.

    Args:
        root: the folder of a bundle, or of an nnU-Net.
        settings: as the user gave them. They are returned as they are where they name views, or nothing says how the network
            was trained.

    Raises:
        BundleError: for a ``compare.yaml`` or plans that cannot be read.
    """
    if settings.method.views != Views() or not has_protocol(root):
        return settings
    mirrors = protocol_of(root).mirrors
    if mirrors is None:
        return settings
    return replace(settings, method=replace(settings.method, views=Views(axes=mirrors)))
