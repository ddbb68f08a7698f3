"""All figures of how well one confidence ranks cases, with intervals. Definitions: `monai_tta.quality.failure_detection`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from monai_tta.quality.failure_detection import (
    augrc,
    aurc,
    case_rows,
    excess_aurc,
    failure_auroc,
    normalized_excess_aurc,
    rank_correlation,
)

RESAMPLES = 1000


@dataclass(frozen=True)
class RankingFigures:
    """How well one confidence ranks cases, see the functions of the same names; NaN where a figure is not defined.

    Args:
        aurc: in [0, 1].
        excess_aurc: e-AURC, about 0 or more.
        normalized_excess_aurc: 0 is ideal, 1 is random.
        augrc: in [0, 0.5].
        failure_auroc: in [0, 1].
        spearman: with the quality, in [-1, 1].
    """

    aurc: float
    excess_aurc: float
    normalized_excess_aurc: float
    augrc: float
    failure_auroc: float
    spearman: float


def ranking_figures(confidence: ArrayLike, quality: ArrayLike, accept: float) -> RankingFigures:
    """All figures of one confidence.

    Args:
        confidence: ``(N,)``.
        quality: ``(N,)``, in [0, 1], such as the mean Dice of each case. The risk is one minus this.
        accept: a case of less quality than this has failed.

    Raises:
        ValueError: for rows of different lengths, without a case, or with a NaN.
    """
    own, good = case_rows(confidence, quality)
    risk = 1 - good
    return RankingFigures(
        aurc(own, risk),
        excess_aurc(own, risk),
        normalized_excess_aurc(own, risk),
        augrc(own, risk),
        failure_auroc(own, good < accept),
        rank_correlation(own, good),
    )


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
    """
    own, good = case_rows(confidence, quality)
    members = _members(range(len(own)) if groups is None else groups)
    if len(members) < 2:
        return {field.name: (nan, nan) for field in fields(RankingFigures)}
    draws = np.random.default_rng(seed).integers(0, len(members), (resamples, len(members)))
    found = []
    for draw in draws:
        chosen = np.concatenate([members[k] for k in draw])
        found.append(asdict(ranking_figures(own[chosen], good[chosen], accept)))
    return {name: _middle([one[name] for one in found]) for name in found[0]}


def _members(groups: Sequence[object]) -> list[list[int]]:
    """The places of each group's members."""
    places: dict[object, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    return list(places.values())


def _middle(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The middle 95 % of the values that are numbers; NaN without one."""
    numbers = [value for value in values if value == value]
    if not numbers:
        return nan, nan
    low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
