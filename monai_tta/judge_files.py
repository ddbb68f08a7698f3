"""Where judges lie: a bundle's beside its checkpoint, the universal one in this package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from monai_tta.judge import Judge, NoJudge
from monai_tta.panel import FEATURES
from monai_tta.shadow import CannotAdapt

UNIVERSAL = Path(__file__).parent / "judges" / "universal.npz"


def judge_file(root: Path, checkpoint: str) -> Path:
    """Where the judge of a bundle's checkpoint is kept."""
    stem = Path(checkpoint).stem
    return root / "models" / ("judge.npz" if stem == "model" else f"judge_{stem}.npz")


def judge_of(name: str) -> Judge:
    """The judge in a file, or the universal one.

    Raises:
        CannotAdapt: when there is none, or one that this version cannot ask.
    """
    path = UNIVERSAL if name in ("auto", "universal") else Path(name)
    try:
        judge = named_judge(path)
    except NoJudge as error:
        raise CannotAdapt(str(error).replace(str(path), path.name)) from error  # records hold no paths
    if judge.features != FEATURES:
        raise CannotAdapt(f"{path.name} judges by other features than this version shows; calibrate again")
    return judge


def named_judge(path: Path) -> Judge:
    """The judge in a file, read once for as long as the file stays as it is.

    Raises:
        NoJudge: as `Judge.load`.
    """
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=8)
def _read(path: Path, when: int) -> Judge:
    return Judge.load(path)
