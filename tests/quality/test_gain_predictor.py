"""The gain predictor: its file holds numbers only, and its weights prefer gains that are large and certain."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta.preparation.fit import fit_predictor
from monai_tta.quality.gain_predictor import GainPredictor, PredictorError
from monai_tta.quality.mixture_weights import DISCOUNTS, PredictedGains, candidate_weights, exceeds_margin, is_gamble, is_worth_it
from tests.preparation.calibration_cases import calibration_set, predicted
from tests.small import stump


def test_a_file_gives_the_same_predictor_back(tmp_path):
    file = tmp_path / "gain_predictor.npz"
    predictor = fit_predictor(calibration_set(), 0.1)
    predictor.save(file)
    again = GainPredictor.load(file)
    table = calibration_set(seed=3).cases[0].features
    np.testing.assert_array_equal(again.weights(table), predictor.weights(table))
    assert (again.margin, again.features, again.about) == (predictor.margin, predictor.features, predictor.about)
    assert again.loss_limit == predictor.loss_limit == 0.05
    assert again.sure_spreads == predictor.sure_spreads == 2
    assert again.discount == predictor.discount == "relative spread"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04\x95pickle"])
def test_a_damaged_file_is_refused(tmp_path, content):
    file = tmp_path / "gain_predictor.npz"
    file.write_bytes(content)
    with pytest.raises(PredictorError, match=r"gain_predictor\.npz cannot be read"):
        GainPredictor.load(file)


def test_a_pickle_in_the_file_is_not_opened(tmp_path):
    opened = tmp_path / "opened"

    class Bomb:
        def __reduce__(self):
            return (open, (str(opened), "w"))

    arrays = {**vars(stump().forest), "description": np.array([Bomb()], dtype=object)}
    np.savez(tmp_path / "gain_predictor.npz", **arrays)
    with pytest.raises(PredictorError):
        GainPredictor.load(tmp_path / "gain_predictor.npz")
    assert not opened.exists()


@pytest.mark.parametrize(
    "field, value", [("left", 0), ("right", 99), ("left", -5), ("feature", 999), ("value", np.nan), ("roots", 7)]
)
def test_a_forest_whose_branches_lead_nowhere_is_refused(tmp_path, field, value):
    file = tmp_path / "gain_predictor.npz"
    predictor = stump()
    getattr(predictor.forest, field)[0] = value
    predictor.save(file)
    with pytest.raises(PredictorError):
        GainPredictor.load(file)


def test_another_format_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "gain_predictor.npz"
    monkeypatch.setattr("monai_tta.quality.gain_predictor.FORMAT", 99)
    stump().save(file)
    monkeypatch.undo()
    with pytest.raises(PredictorError, match="format 99"):
        GainPredictor.load(file)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.5)), min_size=1, max_size=8), st.floats(0.005, 1))
@settings(deadline=None)
def test_weights_are_a_mixture_of_certain_gains_that_prefers_the_largest_and_most_certain(predictions, temperature):
    gain, spread = np.array(predictions).T
    weights = candidate_weights(predicted(gain, spread), temperature)
    assert (weights[gain <= spread] == 0).all() and (weights >= 0).all()
    assert weights.sum() == (pytest.approx(1) if (gain > spread).any() else 0)
    if (gain > spread).any():
        cautious = np.where(gain > spread, gain - 2 * spread, -np.inf)
        assert weights[cautious.argmax()] == weights.max()


def test_weights_follow_the_gain_less_its_discount():
    weights = candidate_weights(predicted([0.05, 0.08, 0.02], [0.01, 0.04, 0.03]), 0.03)
    assert weights[2] == 0 and weights[0] / weights[1] == pytest.approx(np.exp((0.03 - 0.0) / 0.03))


def test_what_trees_say_of_all_candidates_alike_is_no_doubt_about_the_choice():
    """Two trees: they differ by 10 points on the first candidate and by 12 on the second, and so by 2 on which is better.

    The third counts in no mixture, so what it does has no part in it.
    """
    of_each_tree = np.array([[0.10, 0.12, -0.5], [0.20, 0.24, 0.5]])
    whole = PredictedGains.of_trees(of_each_tree, "two spreads")
    np.testing.assert_allclose(whole.gain, [0.15, 0.18, 0.0])
    np.testing.assert_allclose(whole.spread, [0.05, 0.06, 0.5])
    np.testing.assert_allclose(whole.discount, [0.1, 0.12, 1.0])
    relative = PredictedGains.of_trees(of_each_tree, "relative spread")
    np.testing.assert_allclose(relative.gain, whole.gain)
    np.testing.assert_allclose(relative.spread, whole.spread)
    np.testing.assert_allclose(relative.discount[:2], [0.005, 0.005])  # 0.10 - 0.11 and 0.20 - 0.22: a spread of 0.005


def test_where_no_candidate_counts_there_is_no_mixture():
    relative = PredictedGains.of_trees(np.array([[-0.1, -0.2], [0.1, -0.3]]), "relative spread")
    assert np.isfinite(relative.discount).all() and not candidate_weights(relative, 0.03).any()


def test_doubt_whether_to_adapt_does_not_weaken_the_better_candidate():
    """All trees agree that the second gains ten points more; they do not agree on how much either gains."""
    of_each_tree = np.array([[0.04, 0.14], [0.20, 0.30]])
    whole, relative = (candidate_weights(PredictedGains.of_trees(of_each_tree, way), 0.03) for way in DISCOUNTS)
    np.testing.assert_allclose(relative[1] / relative[0], np.exp(0.1 / 0.03))
    np.testing.assert_allclose(whole, relative)  # alike here: both have a spread of 0.08
    more_in_doubt = of_each_tree * [[1, 0.6], [1, 1.2]]
    whole, relative = (candidate_weights(PredictedGains.of_trees(more_in_doubt, way), 0.03) for way in DISCOUNTS)
    assert whole[1] < 0.5 < relative[1]


def test_an_unknown_discount_is_refused(tmp_path):
    replace(stump(), discount="none").save(tmp_path / "gain_predictor.npz")
    with pytest.raises(PredictorError, match="it takes 'none' off gains; known are"):
        GainPredictor.load(tmp_path / "gain_predictor.npz")


def test_a_gain_must_exceed_its_spread_times_the_margin():
    gains = predicted([0.02, -0.1], [0.01, 0.0])
    assert exceeds_margin(gains, 1.9) and not exceeds_margin(gains, 2.1)
    assert not exceeds_margin(predicted([0.0, 0.0], [0.0, 0.0]), 0)


def test_a_gamble_loses_more_than_the_limit_two_spreads_below_what_is_expected():
    weights = np.array([0.5, 0.5])
    assert not is_gamble(weights, predicted([0.1, 0.2], [0.09, 0.1]), 0.05)  # 0.15 - 2 * 0.095 = -0.04
    assert is_gamble(weights, predicted([0.1, 0.2], [0.09, 0.12]), 0.05)  # -0.06


def test_a_gamble_is_not_taken_by_a_predictor_that_has_a_limit():
    gains = predicted([0.1], [0.09])
    for limit, is_taken in ((None, True), (0.05, False), (0.1, True)):
        assert replace(stump(), margin=1.0, loss_limit=limit).mixture_weights(gains).any() == is_taken


def test_a_mixture_with_a_small_expected_gain_is_left_out():
    """Not sure, and little: the mixture is expected to gain two points, and must be expected to gain more than the least."""
    predictor = fit_predictor(calibration_set(n=80), 0.05)
    gain, spread = np.array([0.03, 0.011]), np.array([0.0155, 0.0102])
    gains = predicted(gain, spread)
    predictor = replace(predictor, margin=1.0)
    expected = float(candidate_weights(gains, predictor.temperature) @ gain)
    assert predictor.mixture_weights(gains, expected - 1e-6).sum() == pytest.approx(1)
    assert not predictor.mixture_weights(gains, expected + 1e-6).any()
    assert predictor.mixture_weights(gains).any(), "0.02 unless told otherwise"
    assert not predictor.mixture_weights(predicted(gain * 0.85, spread * 0.85)).any()


@pytest.mark.parametrize(("sure_spreads", "spread", "is_taken"), [(2.0, 0.0049, True), (2.0, 0.0051, False), (None, 0.0, False)])
def test_a_small_gain_is_taken_where_it_is_still_one_two_spreads_below_what_is_expected(sure_spreads, spread, is_taken):
    gains = predicted([0.01, -0.2], [spread, 0.0])
    assert is_worth_it(np.array([1.0, 0.0]), gains, sure_spreads) == is_taken
    predictor = replace(stump(), margin=1.0, sure_spreads=sure_spreads)
    assert predictor.mixture_weights(gains).any() == is_taken


@pytest.mark.parametrize(("gain", "least", "is_taken"), [(0.0021, 0.02, True), (0.0019, 0.02, False), (0.0019, 0.001, True)])
def test_a_gain_of_a_fifth_of_a_point_is_not_worth_the_passes_however_sure(gain, least, is_taken):
    assert is_worth_it(np.array([1.0]), predicted([gain], [0.0]), 2.0, least) == is_taken


def test_no_mixture_is_never_worth_it():
    assert not is_worth_it(np.zeros(2), predicted([0.1, -0.1], [0.2, 0.0]), 2.0)
