"""Intervals that hold the truth at a stated rate: split conformal prediction with residuals in units of their expected size.

Vovk et al. 2005, Algorithmic Learning in a Random World; normalised residuals: Papadopoulos et al. 2008. The rate holds for new
cases that are exchangeable with those of the scores.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from monai_tta.quality.gain_predictor import Floats

LEAST = 0.02  # no interval ends nearer to the prediction: labels that two people draw differ by more


def interval_of(expected: Floats, spread: Floats, tails: Floats) -> tuple[Floats, Floats]:
    """The ends of the interval of each row, which holds what is within `LEAST` of the prediction, and lies in [0, 1].

    Args:
        expected: Dice of each row.
        spread: of each row, in Dice.
        tails: where the interval ends, in spreads ``(rows, 2)``.
    """
    low = np.clip(np.minimum(expected + tails[:, 0] * spread, expected - LEAST), 0, 1)
    high = np.clip(np.maximum(expected + tails[:, 1] * spread, expected + LEAST), 0, 1)
    return low, high


def conformal_tails(scores: Floats, rate: float, n: int) -> tuple[float, float]:
    """Between which scores those of new cases lie at the stated rate: the conformal quantiles of both sides.

    Of n exchangeable scores the ``floor((n + 1) a / 2)``-th smallest and the ``ceil((n + 1) (1 - a / 2))``-th, a = 1 - rate; an
    infinity where there are too few scores to say. Where there are several scores to a case, n is the number of cases, and the
    quantiles are at the same levels.

    Args:
        scores: truth less prediction, in spreads, in any order.
        rate: in (0, 1).
        n: how many of them are independent of each other.
    """
    ordered = np.sort(scores)
    alpha = 1 - rate
    below = floor((n + 1) * alpha / 2 + 1e-9)
    above = ceil((n + 1) * (1 - alpha / 2) - 1e-9)
    low = -np.inf if below < 1 else ordered[max(0, floor(below / n * len(ordered) + 1e-9) - 1)]
    high = np.inf if above > n else ordered[min(len(ordered), ceil(above / n * len(ordered) - 1e-9)) - 1]
    return float(low), float(high)
