"""Where predictors are: those of a checkpoint beside its file of weights, a universal gain predictor in this package."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from monai_tta.compute.number_files import beside_checkpoint, read_once
from monai_tta.core.errors import CannotAdapt, cannot_use
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor, PredictorError
from monai_tta.quality.quality_predictor import QualityPredictor

UNIVERSAL = Path(__file__).parent / "predictors" / "universal.npz"


def predictor_file(weights: Path) -> Path:
    """Where the gain predictor of a checkpoint is kept: beside its file of weights.

    Args:
        weights: the checkpoint's file of weights.

    >>> predictor_file(Path("models/model.pt")).name, predictor_file(Path("models/model_instance.pt")).name
    ('gain_predictor.npz', 'gain_predictor_model_instance.npz')
    """
    return beside_checkpoint(weights, "gain_predictor")


def load_predictor(name: str) -> GainPredictor:
    """The gain predictor in a file, or the universal one for "universal" and "auto".

    Args:
        name: a path, "universal" or "auto".

    Raises:
        CannotAdapt: when there is none, or one for features that this version does not compute. One for fewer is read.
    """
    path = UNIVERSAL if name in ("auto", "universal") else Path(name)
    try:
        predictor = read_predictor(path)
    except PredictorError as error:
        raise cannot_use(path, error) from error
    if set(predictor.features) - set(FEATURES):
        raise CannotAdapt(f"{path.name} was fitted to other features than this version computes; calibrate again")
    return predictor if predictor.features == FEATURES else predictor.for_features(FEATURES)


def read_predictor(path: Path) -> GainPredictor:
    """The gain predictor in a file, read once for as long as the file stays as it is.

    Args:
        path: the file.

    Raises:
        PredictorError: as `GainPredictor.load`.
    """
    return read_once(GainPredictor.load, path)


def quality_file(weights: Path) -> Path:
    """Where the quality predictor of a checkpoint is kept: beside its file of weights.

    Args:
        weights: the checkpoint's file of weights.

    >>> quality_file(Path("models/model.pt")).name, quality_file(Path("models/model_instance.pt")).name
    ('quality_predictor.npz', 'quality_predictor_model_instance.npz')
    """
    return beside_checkpoint(weights, "quality_predictor")


def quality_beside(predictor: Path) -> Path:
    """Where the quality predictor goes that is fitted together with a gain predictor's file.

    >>> quality_beside(Path("models/gain_predictor_a.npz")).name, quality_beside(Path("trial.npz")).name
    ('quality_predictor_a.npz', 'trial_quality.npz')
    """
    name = predictor.name
    if name.startswith("gain_predictor"):
        return predictor.with_name("quality" + name.removeprefix("gain"))
    return predictor.with_name(f"{predictor.stem}_quality{predictor.suffix}")


def as_quality_predictor(given: QualityPredictor | str | PathLike[str] | None) -> QualityPredictor | None:
    """A quality predictor, or the one in a file, read once for as long as the file stays as it is.

    Args:
        given: the predictor or its file; None for none.

    Raises:
        PredictorError: for a file that is not there, cannot be read, or was written for other features.
    """
    if given is None or isinstance(given, QualityPredictor):
        return given
    return read_once(QualityPredictor.load, Path(given))
