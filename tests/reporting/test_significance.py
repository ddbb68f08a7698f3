"""The statistics of a comparison against numbers worked out by hand and against scipy."""

from itertools import product
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, kendalltau

from monai_tta.reporting.significance import holm, kendall, mean_interval, paired_p, rank_stability, share_harmed, worst_tail


def test_holm_by_hand():
    # Sorted: .005 x 4, .01 x 3, .03 x 2, .04 x 1; the last would fall below the one before it, so it doesn't.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]
    first, unknown, last = holm([0.01, nan, 0.02])  # two tests were made, not three
    assert (first, last) == pytest.approx((0.02, 0.02)) and isnan(unknown)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lowers(values):
    corrected = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, corrected, strict=True))
    order = np.argsort(values, kind="stable")
    assert all(np.diff(np.asarray(corrected)[order]) >= 0)


def test_the_signed_rank_test_by_counting():
    changes = np.array([0.1, 0.2, 0.3, 0.4, -0.05])
    ranks = np.argsort(np.argsort(abs(changes))) + 1
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product([0, 1], repeat=5)]
    found = sum(r for r, c in zip(ranks, changes, strict=True) if c > 0)
    assert paired_p(changes) == pytest.approx(2 * np.mean(np.array(sums) >= found))
    assert paired_p([0.0, 0.0]) == 1.0 and isnan(paired_p([])) and isnan(paired_p([nan]))
    assert paired_p([*changes, nan]) == paired_p(changes) == pytest.approx(paired_p(-changes))


def test_the_interval_is_seeded_and_scipys():
    changes = np.random.default_rng(1).normal(0.02, 0.05, 40)
    ours = mean_interval(changes, resamples=20000)
    theirs = bootstrap((changes,), np.mean, n_resamples=20000, method="percentile", random_state=2).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-3)
    assert mean_interval(changes) == mean_interval([*changes, nan]) != mean_interval(changes, seed=1)
    assert mean_interval([0.2, 0.2, 0.2]) == pytest.approx((0.2, 0.2))
    assert all(isnan(end) for end in mean_interval([0.2]))


def test_harm_and_the_worst_tail():
    changes = [-0.2, -0.0101, -0.0099, 0.0, 0.3]
    assert share_harmed(changes) == 0.4 and share_harmed([nan, *changes]) == 0.4 and isnan(share_harmed([]))
    assert worst_tail(changes) == -0.2  # a tenth of five cases is one case
    assert worst_tail(np.arange(20) / 100) == pytest.approx(0.005) and worst_tail(np.arange(21) / 100) == pytest.approx(0.01)
    assert isnan(worst_tail([]))


def test_a_clear_ranking_is_stable_and_a_lottery_is_not():
    rng = np.random.default_rng(0)
    cases = rng.uniform(0.3, 0.9, 30)
    clear = np.stack([cases, cases + 0.01, cases + 0.02])
    assert rank_stability(clear) == rank_stability(clear[:, :2].repeat(2, 1)) and rank_stability(clear).winner == 1
    assert rank_stability(clear).agreement == pytest.approx(1)
    lottery = rank_stability(rng.uniform(0, 1, (5, 30)))
    assert lottery.winner < 0.9 and lottery.agreement < 0.9
    gap = clear.copy()
    gap[0, 0] = nan
    assert rank_stability(gap).winner == 1
    assert isnan(rank_stability(clear[:1]).winner) and isnan(rank_stability(clear[:, :1]).agreement)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=8))
def test_kendalls_tau_is_scipys(pairs):
    a, b = zip(*pairs, strict=True)
    ours, theirs = kendall(a, b), kendalltau(a, b).statistic
    assert (isnan(ours) and isnan(theirs)) or ours == pytest.approx(theirs)
