"""Calibrate a network's own gain predictor on images, labelled or not, with neither a bundle nor any files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import collect_cases
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import check_scikit_learn, fit_predictor
from monai_tta.preparation.fit_quality import NEEDS_LABELS, fit_quality
from monai_tta.preparation.labelled_images import HeadOrAuto
from monai_tta.quality.gain_predictor import GainPredictor

__all__ = ["CalibrationSettings", "calibrate_network"]


def calibrate_network(
    network: nn.Module,
    images: Sequence[Tensor],
    labels: Sequence[Tensor | None] | None = None,
    *,
    head: HeadOrAuto = "auto",
    roi_size: Any = -1,
    inferer: Callable[..., Any] | None = None,
    settings: CalibrationSettings = CalibrationSettings(),  # noqa: B008
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    quality: Path | None = None,
) -> GainPredictor:
    """Calibrate a gain predictor for `Careful` on images of the network's source, labelled or not.

    Images should be ones that the network was not trained on; on training images it looks better than it is. Each image is shown
    several times as another scanner might show it, all candidates of `Careful` are run on it, and the predictor learns which of
    them gained. Without labels, a gain is one against the network's own answer to the undistorted image. Save the predictor by
    ``predictor.save(Path("gain_predictor.npz"))`` and use it by ``Careful(predictor="gain_predictor.npz")``.

    Args:
        network: the trained network, on the device on which it is to be calibrated. It is never changed.
        images: ``(C, *spatial)`` each, preprocessed as the network needs them; at least five, with something in their labels.
        labels: for each image, on its grid: class numbers ``(1, *spatial)``, or one channel per structure ``(K, *spatial)``; None
            for an image without one. None in place of all of them: the network's own answers to the whole, undistorted images
            are the labels, and ``predictor.about["labels"]`` says so.
        head: what the logits stand for. "auto": one channel is "sigmoid", more are "softmax".
        roi_size: the size of the windows, as for `AdaptiveInferer`; the whole image unless told otherwise.
        inferer: a MONAI inferer that cuts images into windows, in place of ``roi_size``.
        settings: how thorough, and how much harm.
        name: what the predictor's ``about`` calls the network; the name of its class unless told otherwise.
        progress: called with the number of distorted images that are done, and of all.
        quality: a file to which the network's quality predictor is written, for ``AdaptiveInferer(quality=...)``; None for none.
            It needs a label for each image.

    Returns:
        the gain predictor. ``predictor.about`` says how it did on held-out images. A warning says where it is of no use, see
        `GainPredictor.useless_because`.

    Raises:
        ValueError: for too few images, or images and labels that do not fit each other or the network; for ``quality_only``.
        CannotAdapt: for a network whose layers cannot be seen.
        ImportError: when scikit-learn is not installed.
    """
    check_scikit_learn()
    if settings.quality_only:
        raise ValueError("calibrate_network makes a gain predictor; with quality_only there is none")
    if quality is not None and (labels is None or any(label is None for label in labels)):
        raise ValueError(NEEDS_LABELS)  # told now, not after an hour of work
    calibration = CalibrationSet(name or type(network).__name__)
    cutter = SlidingWindowInferer(roi_size) if inferer is None else inferer
    for done in collect_cases(calibration, network, images, labels, head=head, inferer=cutter, settings=settings):
        if progress is not None:
            progress(done, settings.size)
    predictor = fit_predictor(calibration, settings.harm)
    if quality is not None:
        fit_quality(calibration, settings.budget).save(quality)
    if useless := predictor.useless_because():
        warnings.warn(f"this gain predictor is of no use: {useless}", stacklevel=2)
    return predictor
