"""Figures of failure detection: by hand, against other people's code, and where they say nothing."""

from dataclasses import asdict
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from monai_tta.quality.failure_detection import (
    augrc,
    aurc,
    excess_aurc,
    failure_auroc,
    ideal_aurc,
    normalized_excess_aurc,
    rank_correlation,
    risk_coverage_curve,
)
from monai_tta.quality.interval_coverage import coverage_by_prediction, interval_coverage
from monai_tta.quality.ranking_bootstrap import bootstrap_intervals, weighted_figures
from monai_tta.quality.ranking_figures import ranking_figures

RISK = (0.0, 0.5, 0.5, 1.0)
CASES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10)), min_size=2, max_size=12)


@pytest.mark.parametrize(
    "confidence, risk, area, generalized",
    [
        ((4, 3, 2, 1), RISK, 5 / 24, 5 / 32),  # selective risks 0, 1/4, 1/3, 1/2
        ((1, 2, 3, 4), RISK, 19 / 24, 11 / 32),  # 1, 3/4, 2/3, 1/2
        ((2, 2, 1, 1), (0, 1, 0, 1), 1 / 2, 1 / 4),  # two thresholds, 1/2 at both
        ((3, 2, 2, 1), (0, 0.5, 1, 0.5), 1 / 4, 13 / 64),  # 0 at a quarter, 1/2 at three quarters and at all
        ((7, 7, 7), (0.2, 0.4, 0.9), 0.5, 0.25),  # one threshold: a random order
        ((1,), (0.3,), 0.3, 0.15),
    ],
)
def test_areas_by_hand(confidence, risk, area, generalized):
    assert aurc(confidence, risk) == pytest.approx(area)
    assert augrc(confidence, risk) == pytest.approx(generalized)


def test_the_curve_goes_from_all_cases_to_none():
    curve = risk_coverage_curve((3, 2, 2, 1), (0, 0.5, 1, 0.5))
    assert curve.coverage == pytest.approx([1, 0.75, 0.25, 0])
    assert curve.selective_risk == pytest.approx([0.5, 0.5, 0, 0])
    assert curve.generalized_risk == pytest.approx([0.5, 0.375, 0, 0])


def test_excess_is_none_for_the_best_order_one_for_a_random_one_and_more_for_the_wrong_one():
    assert ideal_aurc(RISK) == pytest.approx(5 / 24) and ideal_aurc(RISK[::-1]) == pytest.approx(5 / 24)
    assert excess_aurc((4, 3, 2, 1), RISK) == pytest.approx(0) == normalized_excess_aurc((4, 3, 2, 1), RISK)
    assert excess_aurc((1, 2, 3, 4), RISK) == pytest.approx(14 / 24)
    assert normalized_excess_aurc((1, 2, 3, 4), RISK) == pytest.approx(2)
    assert normalized_excess_aurc((0, 0, 0, 0), RISK) == pytest.approx(1)
    orders = [np.random.default_rng(seed).permutation(4) for seed in range(1000)]
    assert np.mean([normalized_excess_aurc(order, RISK) for order in orders]) == pytest.approx(1, abs=0.06)
    assert isnan(normalized_excess_aurc((1, 2), (0.4, 0.4)))


@settings(max_examples=50, deadline=None)
@given(CASES)
def test_areas_agree_with_a_count_at_each_threshold(cases):
    """The same by another way: for each threshold, who is accepted; then trapezoids by numpy's interpolation."""
    confidence = np.array([c for c, _ in cases], float)
    risk = np.array([r for _, r in cases]) / 10
    points = [(np.mean(confidence >= t), risk[confidence >= t].mean()) for t in np.unique(confidence)]
    points.append((0.0, points[-1][1]))
    fine = np.linspace(0, 1, 4001)
    coverage, selective = np.array(points[::-1]).T
    generalized = np.interp(fine, coverage, coverage * selective)
    assert aurc(confidence, risk) == pytest.approx(np.interp(fine, coverage, selective).mean(), abs=2e-3)
    assert augrc(confidence, risk) == pytest.approx(generalized.mean(), abs=2e-3)
    assert aurc(np.exp(confidence), risk) == aurc(confidence, risk)


@settings(max_examples=50, deadline=None)
@given(CASES)
def test_ranks_and_failures_agree_with_scipy_and_scikit_learn(cases):
    confidence, quality = np.array(cases, float).T
    failed = quality < 5
    if 0 < failed.sum() < len(failed):
        assert failure_auroc(confidence, failed) == pytest.approx(roc_auc_score(~failed, confidence))
        error = failed.mean()  # Traub et al. 2024, section 4: AUGRC of failures follows from their AUROC
        area = (1 - roc_auc_score(~failed, confidence)) * error * (1 - error) + error**2 / 2
        assert augrc(confidence, failed) == pytest.approx(area)
    else:
        assert isnan(failure_auroc(confidence, failed))
    if len(set(confidence)) > 1 and len(set(quality)) > 1:
        assert rank_correlation(confidence, quality) == pytest.approx(spearmanr(confidence, quality).statistic)
    else:
        assert isnan(rank_correlation(confidence, quality))


def test_what_cannot_be_ranked_is_refused():
    for confidence, risk, words in (((1, 2), (0,), "2, 1"), ((), (), "0, 0"), ((1, float("nan")), (0, 1), "leave it out")):
        with pytest.raises(ValueError, match=words):
            aurc(confidence, risk)


def test_all_figures_take_the_quality_and_the_threshold():
    figures = ranking_figures((4, 3, 2, 1), 1 - np.array(RISK), 0.5)
    assert figures.aurc == pytest.approx(5 / 24) and figures.augrc == pytest.approx(5 / 32)
    assert figures.excess_aurc == pytest.approx(0) and figures.spearman == pytest.approx(0.9**0.5)  # two cases tie in quality
    assert figures.failure_auroc == 1  # a Dice of .5 is accepted, 0 is not
    assert isnan(ranking_figures((4, 3, 2, 1), 1 - np.array(RISK), 0.0).failure_auroc)


@settings(max_examples=50, deadline=None)
@given(CASES, st.data())
def test_weighted_cases_are_as_many_copies(cases, data):
    confidence, quality = np.array(cases, float).T
    quality = quality / 10
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(cases), max_size=len(cases))))
    if not weights.any():
        return
    found = weighted_figures(confidence, quality, 0.5, weights[None])
    copies = ranking_figures(np.repeat(confidence, weights), np.repeat(quality, weights), 0.5)
    assert {name: pytest.approx(values[0], nan_ok=True) for name, values in found.items()} == asdict(copies)


def test_cases_of_one_group_are_drawn_together():
    rng = np.random.default_rng(0)
    quality = rng.random(12)
    confidence = quality + rng.normal(size=12)
    alone = bootstrap_intervals(confidence, quality, 0.5, resamples=150)
    assert alone == bootstrap_intervals(confidence, quality, 0.5, list(range(12)), resamples=150)
    four = [np.concatenate([row] * 4) for row in (confidence, quality)]
    copied = bootstrap_intervals(*four, 0.5, list(range(12)) * 4, resamples=150)
    as_many = bootstrap_intervals(*four, 0.5, resamples=150)
    for name in ("spearman", "failure_auroc"):
        assert copied[name] == pytest.approx(alone[name])  # copies of a case are no new cases
        assert np.diff(as_many[name]) < 0.8 * np.diff(alone[name])
    low, high = alone["spearman"]
    assert low < ranking_figures(confidence, quality, 0.5).spearman < high
    assert all(isnan(end) for ends in bootstrap_intervals((1, 2), (0, 1), 0.5, "aa").values() for end in ends)


def test_intervals_are_counted_with_their_ends():
    truth, low, high = (0.1, 0.2, 0.8, 0.9), (0.1, 0.3, 0.7, 0.5), (0.3, 0.4, 0.8, 0.8)
    assert interval_coverage(truth, low, high) == 0.5  # inside at the low end, below, inside at the high end, above
    worst, best = coverage_by_prediction(truth, (0.2, 0.35, 0.75, 0.7), low, high, bins=2)
    assert (worst.cases, worst.predicted, worst.true) == (2, pytest.approx(0.275), pytest.approx(0.15))
    assert (worst.inside, worst.width, best.inside) == (0.5, pytest.approx(0.15), 0.5)
    assert len(coverage_by_prediction((0.1,), (0.1,), (0,), (1,), bins=4)) == 1
