"""The gain predictor that belongs to a bundle's checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from monai_tta.core.method import AdaptationMethod
from monai_tta.methods.careful import Careful
from monai_tta.quality.predictor_files import read_predictor


def with_bundle_predictor(method: AdaptationMethod, root: Path, checkpoint: str) -> AdaptationMethod:
    """A method whose judge is to be found ("auto") with the one that belongs to a bundle's checkpoint, if there is one.

    Raises:
        NoJudge: when a file that was named can't be read: at once, rather than plain answers for a whole cohort.
    """
    if not isinstance(method, Careful):
        return method
    file = predictor_file(root, checkpoint)
    method = replace(method, predictor=str(file)) if method.predictor == "auto" and file.is_file() else method
    if method.predictor not in ("auto", "universal"):
        read_predictor(Path(method.predictor))
    return method


def careful_of(bundle_root: str, checkpoint: str = "model.pt") -> AdaptationMethod:
    """`Careful` with the judge of a bundle, for a config's ``_target_``."""
    return with_bundle_predictor(Careful(), Path(bundle_root), checkpoint)


def predictor_file(root: Path, checkpoint: str) -> Path:
    """Where the judge of a bundle's checkpoint is kept."""
    stem = Path(checkpoint).stem
    return root / "models" / ("judge.npz" if stem == "model" else f"judge_{stem}.npz")
