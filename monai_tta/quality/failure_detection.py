"""How well a figure tells good answers from bad ones: risk and coverage, failures, ranks, and what intervals hold.

A *confidence* is any figure that should be higher where an answer is better. A *risk* is a loss in [0, 1]; for segmentation it is
one minus the Dice (Zenk et al. 2024). Whoever accepts the most confident cases alone has a *coverage*, the share of cases that is
accepted, and a *selective risk*, their mean risk.

The definitions are those of two published benchmarks. fd-shifts: Jaeger et al., "A Call to Reflect on Evaluation Practices for
Failure Detection in Image Classification", ICLR 2023, arXiv 2211.15259; Traub et al., "Overcoming Common Flaws in the Evaluation
of Selective Classification Systems", NeurIPS 2024, arXiv 2407.01032. Segmentation failures: Zenk et al., "Comparative
Benchmarking of Failure Detection Methods in Medical Image Segmentation", 2024, arXiv 2406.03323. fd-shifts shows areas times
1,000; here they are not scaled.

All arguments are rows of plain numbers of one length, one for each case. None may be NaN.
"""

from __future__ import annotations

from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


class RiskCoverageCurve(NamedTuple):
    """Points of a risk-coverage curve, from all cases accepted (coverage 1) to none (coverage 0).

    Args:
        coverage: share of the cases that is accepted, in [0, 1], falling.
        selective_risk: mean risk of the accepted cases, in [0, 1]. At coverage 0 it is that of the point before.
        generalized_risk: selective risk times coverage: the risk of the accepted cases per case of all; 0 at coverage 0.
    """

    coverage: Floats
    selective_risk: Floats
    generalized_risk: Floats


def risk_coverage_curve(confidence: ArrayLike, risk: ArrayLike) -> RiskCoverageCurve:
    """The curve of El-Yaniv and Wiener (JMLR 2010) as fd-shifts computes it: a point for each threshold that exists.

    Cases with the same confidence are accepted together or not at all, so that their order plays no part.

    Args:
        confidence: ``(N,)``, higher where an answer should be better.
        risk: ``(N,)``, in [0, 1].

    Raises:
        ValueError: for rows of different lengths, without a case, or with a NaN.
    """
    own, risks = case_rows(confidence, risk)
    order = np.argsort(-own, kind="stable")
    own = own[order]
    n_accepted = np.arange(1, len(own) + 1)
    total_risk = np.cumsum(risks[order])
    is_threshold = np.append(own[1:] != own[:-1], True)  # the last case of those with the same confidence
    n_accepted = n_accepted[is_threshold][::-1]
    total_risk = total_risk[is_threshold][::-1]
    selective = total_risk / n_accepted
    return RiskCoverageCurve(
        np.append(n_accepted / len(own), 0.0),
        np.append(selective, selective[-1]),
        np.append(total_risk / len(own), 0.0),
    )


def aurc(confidence: ArrayLike, risk: ArrayLike) -> float:
    """The area under the risk-coverage curve, by trapezoids: the mean selective risk over coverages, in [0, 1]; lower is better.

    Args:
        confidence: ``(N,)``.
        risk: ``(N,)``, in [0, 1].
    """
    curve = risk_coverage_curve(confidence, risk)
    return _area(curve.coverage, curve.selective_risk)


def ideal_aurc(risk: ArrayLike) -> float:
    """The area that the best possible order of these cases has, in [0, 1]: each case a threshold of its own, the best first.

    Args:
        risk: ``(N,)``, in [0, 1].
    """
    sorted_risks = np.sort(np.asarray(risk, dtype=np.float64))
    return aurc(-np.arange(len(sorted_risks)), sorted_risks)


def excess_aurc(confidence: ArrayLike, risk: ArrayLike) -> float:
    """e-AURC (Geifman et al., ICLR 2019): the area above that of the best possible order.

    It can be a little below 0 where cases tie in confidence: the curve then has fewer points than the ideal one.

    Args:
        confidence: ``(N,)``.
        risk: ``(N,)``, in [0, 1].
    """
    return aurc(confidence, risk) - ideal_aurc(risk)


def normalized_excess_aurc(confidence: ArrayLike, risk: ArrayLike) -> float:
    """e-AURC as a share of what a random order has: 0 is ideal, 1 is random, more is worse than random.

    The expected area of a random order is the mean risk. Zenk et al. report one minus this. NaN where all risks are equal.

    Args:
        confidence: ``(N,)``.
        risk: ``(N,)``, in [0, 1].
    """
    own, risks = case_rows(confidence, risk)
    ideal = ideal_aurc(risks)
    room = float(risks.mean()) - ideal
    return (aurc(own, risks) - ideal) / room if room > 1e-12 else nan


def augrc(confidence: ArrayLike, risk: ArrayLike) -> float:
    """The area under the generalized risk-coverage curve, in [0, 0.5]; lower is better (Traub et al. 2024).

    It is the mean over coverages of the risk that is taken unnoticed, per case of all. A random order has half the mean risk.
    Unlike AURC it does not give the most weight to the few most confident cases.

    Args:
        confidence: ``(N,)``.
        risk: ``(N,)``, in [0, 1].
    """
    curve = risk_coverage_curve(confidence, risk)
    return _area(curve.coverage, curve.generalized_risk)


def failure_auroc(confidence: ArrayLike, failed: ArrayLike) -> float:
    """How often a case that did not fail has the higher confidence of a pair; a tie counts half. 1 is ideal, 0.5 random.

    This is the area under the ROC curve of "did not fail" (Hanley and McNeil, Radiology 1982).

    Args:
        confidence: ``(N,)``.
        failed: ``(N,)``, of truth values.

    Returns:
        a number in [0, 1]; NaN where all cases failed, or none.
    """
    own, bad = case_rows(confidence, failed)
    is_good = bad == 0
    n_good = int(is_good.sum())
    n_bad = len(own) - n_good
    if not n_good or not n_bad:
        return nan
    ranks = rankdata(own)
    return float((ranks[is_good].sum() - n_good * (n_good + 1) / 2) / (n_good * n_bad))


def rank_correlation(confidence: ArrayLike, quality: ArrayLike) -> float:
    """Spearman's rank correlation of confidence and quality, in [-1, 1]; 1 is ideal. NaN where one of them is constant.

    Zenk et al. correlate with the risk, so their sign is the opposite.

    Args:
        confidence: ``(N,)``.
        quality: ``(N,)``, for example Dice.
    """
    own, good = (rankdata(row) for row in case_rows(confidence, quality))
    spread = float(own.std() * good.std())
    return float(((own - own.mean()) * (good - good.mean())).mean() / spread) if spread else nan


def case_rows(*given: ArrayLike) -> tuple[Floats, ...]:
    """Rows of numbers of one length.

    Raises:
        ValueError: for rows of different lengths, without a case, or with a NaN.
    """
    rows = tuple(np.asarray(row, dtype=np.float64).ravel() for row in given)
    if len({len(row) for row in rows}) != 1 or not len(rows[0]):
        raise ValueError(f"one number for each case is needed, found rows of {', '.join(str(len(row)) for row in rows)} numbers")
    if any(np.isnan(row).any() for row in rows):
        raise ValueError("a case without a number cannot be ranked: leave it out and say how many were left out")
    return rows


def _area(coverage: Floats, risk: Floats) -> float:
    """The area under a curve whose coverage falls, by trapezoids."""
    return float((-np.diff(coverage) * (risk[:-1] + risk[1:]) / 2).sum())
