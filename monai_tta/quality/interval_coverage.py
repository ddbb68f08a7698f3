"""What intervals of predicted quality hold: over all cases, and among those that are predicted worst or best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monai_tta.quality.failure_detection import case_rows


@dataclass(frozen=True)
class CoverageBin:
    """Cases of about the same predicted quality, and what their intervals hold.

    Args:
        cases: how many.
        predicted: their mean predicted quality, in [0, 1].
        true: their mean quality, in [0, 1].
        inside: share of cases whose quality lies inside its interval, in [0, 1].
        width: mean width of the intervals.
    """

    cases: int
    predicted: float
    true: float
    inside: float
    width: float


def interval_coverage(quality: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """The share of cases whose quality lies in its interval, both ends included, in [0, 1].

    Args:
        quality: ``(N,)``, the truth.
        low: ``(N,)``, the lower ends.
        high: ``(N,)``, the upper ends.
    """
    truth, lower, upper = case_rows(quality, low, high)
    return float(((lower <= truth) & (truth <= upper)).mean())


def coverage_by_prediction(
    quality: ArrayLike, predicted: ArrayLike, low: ArrayLike, high: ArrayLike, bins: int = 4
) -> list[CoverageBin]:
    """What intervals hold among the cases that are predicted worst, ..., best. They may hold on average and fail the worst.

    Args:
        quality: ``(N,)``, the truth.
        predicted: ``(N,)``.
        low: ``(N,)``, the lower ends.
        high: ``(N,)``, the upper ends.
        bins: into how many parts of about the same size the cases are cut, in the order of their predictions.

    Returns:
        the parts that have a case, the worst predicted first.
    """
    truth, expected, lower, upper = case_rows(quality, predicted, low, high)
    parts = [part for part in np.array_split(np.argsort(expected, kind="stable"), bins) if len(part)]
    return [
        CoverageBin(
            len(part),
            float(expected[part].mean()),
            float(truth[part].mean()),
            interval_coverage(truth[part], lower[part], upper[part]),
            float((upper[part] - lower[part]).mean()),
        )
        for part in parts
    ]
