"""Where judges lie: a bundle's beside its checkpoint, the universal one in this package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from monai_tta.core.shadow import CannotAdapt
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor, PredictorError

UNIVERSAL = Path(__file__).parent / "predictors" / "universal.npz"


def load_predictor(name: str) -> GainPredictor:
    """The judge in a file, or the universal one.

    Raises:
        CannotAdapt: when there is none, or one that this version cannot ask.
    """
    path = UNIVERSAL if name in ("auto", "universal") else Path(name)
    try:
        predictor = read_predictor(path)
    except PredictorError as error:
        raise CannotAdapt(str(error).replace(str(path), path.name)) from error  # records hold no paths
    if predictor.features != FEATURES:
        raise CannotAdapt(f"{path.name} judges by other features than this version shows; calibrate again")
    return predictor


def read_predictor(path: Path) -> GainPredictor:
    """The judge in a file, read once for as long as the file stays as it is.

    Raises:
        NoJudge: as `GainPredictor.load`.
    """
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=8)
def _read(path: Path, when: int) -> GainPredictor:
    return GainPredictor.load(path)
