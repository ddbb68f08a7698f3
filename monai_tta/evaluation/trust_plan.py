"""What `monai-tta trust` answers and measures: a comparison of few contenders, with the signals of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.quality.predictor_files import predictor_file

SHORT = {"careful": "Careful", "statistics": "Statistics, volume, blend 0.3"}


@dataclass(frozen=True, kw_only=True)
class TrustPlan(ComparisonPlan):
    """Which answers to look at, and on what: the fields of `ComparisonPlan`, with Dice alone and all signals.

    Args:
        metrics: as of `ComparisonPlan`.
        signals: whether to measure signals.
    """

    COMMAND: ClassVar[str] = "trust"
    ONLY: ClassVar[str] = "method"

    metrics: tuple[str, ...] = ("dice",)
    signals: bool = True


def chosen_methods(given: Sequence[str], weights: Path) -> tuple[str, ...]:
    """The labels of the adapted answers.

    Args:
        given: "careful", "statistics" (the cautious setting: the volume's, blended 0.3), or what a comparison calls its rows.
            None: careful where the checkpoint has a gain predictor of its own, else statistics.
        weights: the checkpoint's file.
    """
    named = given or ["careful" if predictor_file(weights).is_file() else "statistics"]
    return tuple(dict.fromkeys(SHORT.get(name, name) for name in named))
