"""How certain the figures of `monai_tta.quality.ranking_figures` are: their bootstrap over cases, for all resamples at once.

A resample is a row of weights: how often each case was drawn. The figures of weighted cases are those of as many copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_tta.quality.failure_detection import Floats, case_rows
from monai_tta.quality.ranking_figures import RankingFigures

RESAMPLES = 1000
Integers = NDArray[np.int64]


def bootstrap_intervals(
    confidence: ArrayLike,
    quality: ArrayLike,
    accept: float,
    groups: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each of the `RankingFigures`: percentile bootstrap over cases (Efron, Annals of Statistics 1979).

    Cases of one group are drawn together: several pictures of one patient are not several patients.

    Args:
        confidence: ``(N,)``.
        quality: ``(N,)``, in [0, 1].
        accept: as for `ranking_figures`.
        groups: which group each case belongs to; None for a group of its own.
        resamples: how many times groups are drawn with replacement.
        seed: of the draws. The same seed gives the same intervals.

    Returns:
        both ends by the figure's name; NaN for fewer than two groups. Resamples in which a figure is not defined are left out.

    Raises:
        ValueError: for rows of different lengths, without a case, or with a NaN.
    """
    own, good = case_rows(confidence, quality)
    names = list(range(len(own))) if groups is None else list(groups)
    place = {name: k for k, name in enumerate(dict.fromkeys(names))}
    if len(place) < 2:
        return {field.name: (nan, nan) for field in fields(RankingFigures)}
    drawn = np.random.default_rng(seed).integers(0, len(place), (resamples, len(place)))
    of_groups = np.stack([np.bincount(draw, minlength=len(place)) for draw in drawn])
    found = weighted_figures(own, good, accept, of_groups[:, [place[name] for name in names]])
    return {name: _middle(values) for name, values in found.items()}


def weighted_figures(confidence: Floats, quality: Floats, accept: float, weights: Integers) -> dict[str, Floats]:
    """The `RankingFigures` of cases of which each counts several times.

    Args:
        confidence: ``(N,)``.
        quality: ``(N,)``, in [0, 1].
        accept: as for `ranking_figures`.
        weights: ``(resamples, N)``, how often each case counts, 0 or more; at least one case counts.

    Returns:
        ``(resamples,)`` by the figure's name; NaN where one is not defined.
    """
    risk = 1 - quality
    total = weights.sum(1)
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))  # cases with the same confidence go together
    accepted = np.cumsum(weights[:, order], 1)[:, ends]
    taken = np.cumsum(weights[:, order] * risk[order], 1)[:, ends]
    area = _area(accepted / total[:, None], _selective(taken, accepted))
    generalized = _area(accepted / total[:, None], taken / total[:, None], first=0.0)
    ideal = np.array([_ideal(np.repeat(np.sort(risk), own)) for own in weights[:, np.argsort(risk, kind="stable")]])
    room = (weights @ risk) / total - ideal
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(room > 1e-12, (area - ideal) / room, nan)
    return {
        "aurc": area,
        "excess_aurc": area - ideal,
        "normalized_excess_aurc": share,
        "augrc": generalized,
        "failure_auroc": _auroc(confidence, quality < accept, weights),
        "spearman": _correlation(_ranks(confidence, weights), _ranks(quality, weights), weights),
    }


def _selective(taken: Floats, accepted: Integers) -> Floats:
    """Mean risk of the accepted cases. Before any is accepted it is that of the first ones that are."""
    found = taken / np.maximum(accepted, 1)
    first = (accepted > 0).argmax(1)
    return np.where(accepted > 0, found, found[np.arange(len(found)), first][:, None])


def _area(coverage: Floats, risk: Floats, first: float | None = None) -> Floats:
    """Areas by trapezoids, from coverage 0 on; the risk there is ``first``, or that of the first point."""
    start = risk[:, :1] if first is None else np.full((len(risk), 1), first)
    risks = np.concatenate([start, risk], 1)
    steps = np.diff(coverage, axis=1, prepend=0.0)
    return (steps * (risks[:, :-1] + risks[:, 1:]) / 2).sum(1)


def _ideal(sorted_risk: Floats) -> float:
    """AURC of cases in the best order."""
    selective = np.cumsum(sorted_risk) / np.arange(1, len(sorted_risk) + 1)
    return float((selective.sum() + (selective[0] - selective[-1]) / 2) / len(selective))


def _ranks(values: Floats, weights: Integers) -> Floats:
    """Ranks, from 1, of weighted cases; those that tie share the mean of theirs. ``(resamples, N)``."""
    levels, level = np.unique(values, return_inverse=True)
    of_levels = weights @ (level[:, None] == np.arange(len(levels))).astype(np.int64)
    ranks = np.cumsum(of_levels, 1) - (of_levels - 1) / 2
    return ranks[:, level]


def _auroc(confidence: Floats, failed: NDArray[np.bool_], weights: Integers) -> Floats:
    """As `failure_auroc`, by ranks (Mann and Whitney)."""
    good = weights * ~failed
    n_good = good.sum(1)
    n_bad = weights.sum(1) - n_good
    pairs = n_good * n_bad
    won = (good * _ranks(confidence, weights)).sum(1) - n_good * (n_good + 1) / 2
    return np.where(pairs > 0, won / np.maximum(pairs, 1), nan)


def _correlation(one: Floats, other: Floats, weights: Integers) -> Floats:
    """Pearson's correlation of weighted rows; NaN where one of them is constant."""
    total = weights.sum(1, keepdims=True)
    a = one - (weights * one).sum(1, keepdims=True) / total
    b = other - (weights * other).sum(1, keepdims=True) / total
    spread = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    return np.where(spread > 1e-9, (weights * a * b).sum(1) / np.maximum(spread, 1e-9), nan)


def _middle(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The middle 95 % of the values that are numbers; NaN without one."""
    numbers = values[~np.isnan(values)]
    if not len(numbers):
        return nan, nan
    low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
