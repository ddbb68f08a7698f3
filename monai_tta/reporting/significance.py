"""How certain a comparison is: paired tests, intervals, harm, and how stable a ranking is. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

HARM = 0.01  # a case is harmed when it loses more than one point of Dice
RESAMPLES = 2000


def mean_of_numbers(values: Iterable[float | None]) -> float:
    """The mean of the values that are numbers; NaN when none is. A label that is not in an image has no Dice."""
    numbers = [v for v in values if v is not None and not isnan(v)]
    return fmean(numbers) if numbers else nan


def _numbers(values: ArrayLike) -> NDArray[np.float64]:
    """The values that are numbers, as one row."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def paired_p(changes: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test. The null hypothesis: paired changes go up as often and as far as down.

    Wilcoxon, Biometrics Bulletin 1945, by `scipy.stats.wilcoxon`: changes of exactly zero are left out, the distribution is
    exact for up to 50 changes without ties. 1 when nothing changed, NaN when there is no pair.

    Args:
        changes: ``(N,)``, one per case; NaN for a case without a pair.
    """
    numbers = _numbers(changes)
    if not len(numbers):
        return nan
    return float(wilcoxon(numbers).pvalue) if np.any(numbers) else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Correct the p values of one family of tests for their number (Holm, Scandinavian Journal of Statistics 1979).

    The k-th smallest of m is multiplied by ``m - k + 1``. No corrected value is below that of a smaller p, or above 1.

    Args:
        values: p in [0, 1]; NaN where no test was possible: it stays NaN and is not counted.
    """
    known = sorted((p, i) for i, p in enumerate(values) if not isnan(p))
    corrected = [nan] * len(values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[i] = highest
    return corrected


def mean_interval(changes: ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """The interval of the mean change: percentile bootstrap over cases (Efron, Annals of Statistics 1979).

    Both ends are NaN for fewer than two cases: one case says nothing about others.

    Args:
        changes: ``(N,)``, one per case; NaN for a case without a pair.
        level: the share of resampled means inside the interval, in (0, 1).
        resamples: how many times N cases are drawn with replacement.
        seed: of the draws. The same seed gives the same interval.
    """
    numbers = _numbers(changes)
    if len(numbers) < 2:
        return nan, nan
    draws = np.random.default_rng(seed).integers(0, len(numbers), (resamples, len(numbers)))
    low, high = np.quantile(numbers[draws].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_harmed(changes: ArrayLike, margin: float = HARM) -> float:
    """The share in [0, 1] of cases that lost more than ``margin`` (in Dice); NaN without a case.

    Args:
        changes: one for each case, in Dice.
        margin: the smallest loss that counts as harm, in Dice.
    """
    numbers = _numbers(changes)
    return float(np.mean(numbers < -margin)) if len(numbers) else nan


def worst_tail(changes: ArrayLike, share: float = 0.1) -> float:
    """The mean change of the worst tenth of the cases (the expected shortfall), of at least one case; NaN without a case.

    Args:
        changes: ``(N,)``, one per case.
        share: which share of the cases is the tail, in (0, 1]; rounded up to whole cases.
    """
    numbers = np.sort(_numbers(changes))
    return float(numbers[: ceil(share * len(numbers))].mean()) if len(numbers) else nan


@dataclass(frozen=True)
class Stability:
    """How well a ranking holds when the cases are drawn again; NaN where nothing can be ranked.

    ``winner`` is the share in [0, 1] of resamples in which the same contender is first. ``agreement`` is the mean of
    Kendall's tau-b in [-1, 1] between the ranking of a resample and the ranking of all cases.
    """

    winner: float
    agreement: float


def rank_stability(scores: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Stability:
    """Rank contenders by their mean score, many times, each time on cases drawn with replacement.

    The idea and both figures are from Wiesenfarth et al., Scientific Reports 2021 (challengeR).
    Tau-b is from Kendall, Biometrika 1945.

    Args:
        scores: ``(contenders, cases)``, higher is better. A case with a NaN is left out.
        resamples: how many times.
        seed: of the draws.
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[:, ~np.isnan(table).any(0)]
    if len(table) < 2 or table.shape[1] < 2:
        return Stability(nan, nan)
    draws = np.random.default_rng(seed).integers(0, table.shape[1], (resamples, table.shape[1]))
    full = table.mean(1)
    means = np.stack([table[:, draw].mean(1) for draw in draws])
    first = float(np.mean(means[:, full.argmax()] >= means.max(1)))
    return Stability(first, mean_of_numbers([kendall(full, mean) for mean in means]))


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b of two rows of scores, in [-1, 1]; NaN when all scores of a row are equal.

    The number of pairs in the same order, less the number of pairs in the opposite order, divided by the geometric mean of the
    numbers of untied pairs. `scipy.stats.kendalltau` computes the same, but is far slower for short rows.
    """
    above = np.triu_indices(len(np.asarray(a)), 1)
    first, second = (np.sign(np.subtract.outer(x, x))[above] for x in (np.asarray(a), np.asarray(b)))
    scale = np.sqrt(np.abs(first).sum() * np.abs(second).sum())
    return float((first * second).sum() / scale) if scale else nan
