"""The gain predictor: its file holds numbers only, and its weights prefer gains that are large and certain."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta.preparation.fit import fit_predictor
from monai_tta.quality.gain_predictor import GainPredictor, PredictorError
from monai_tta.quality.mixture_weights import candidate_weights, exceeds_margin, is_gamble, is_worth_it
from tests.preparation.calibration_cases import calibration_set
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
    weights = candidate_weights(gain, spread, temperature)
    assert (weights[gain <= spread] == 0).all() and (weights >= 0).all()
    assert weights.sum() == (pytest.approx(1) if (gain > spread).any() else 0)
    if (gain > spread).any():
        cautious = np.where(gain > spread, gain - 2 * spread, -np.inf)
        assert weights[cautious.argmax()] == weights.max()


def test_weights_follow_the_gain_less_two_spreads():
    weights = candidate_weights(np.array([0.05, 0.08, 0.02]), np.array([0.01, 0.04, 0.03]), 0.03)
    assert weights[2] == 0 and weights[0] / weights[1] == pytest.approx(np.exp((0.03 - 0.0) / 0.03))


def test_a_gain_must_exceed_its_spread_times_the_margin():
    gain, spread = np.array([0.02, -0.1]), np.array([0.01, 0.0])
    assert exceeds_margin(gain, spread, 1.9) and not exceeds_margin(gain, spread, 2.1)
    assert not exceeds_margin(np.zeros(2), np.zeros(2), 0)


def test_a_gamble_loses_more_than_the_limit_two_spreads_below_what_is_expected():
    weights, gain = np.array([0.5, 0.5]), np.array([0.1, 0.2])
    assert not is_gamble(weights, gain, np.array([0.09, 0.1]), 0.05)  # 0.15 - 2 * 0.095 = -0.04
    assert is_gamble(weights, gain, np.array([0.09, 0.12]), 0.05)  # -0.06


def test_a_gamble_is_not_taken_by_a_predictor_that_has_a_limit():
    gain, spread = np.array([0.1]), np.array([0.09])
    for limit, is_taken in ((None, True), (0.05, False), (0.1, True)):
        assert replace(stump(), margin=1.0, loss_limit=limit).mixture_weights(gain, spread).any() == is_taken


def test_a_mixture_with_a_small_expected_gain_is_left_out():
    """Not sure, and little: the mixture is expected to gain two points, and must be expected to gain more than the least."""
    predictor = fit_predictor(calibration_set(n=80), 0.05)
    gain, spread = np.array([0.03, 0.011]), np.array([0.0155, 0.0102])
    predictor = replace(predictor, margin=1.0)
    expected = float(candidate_weights(gain, spread, predictor.temperature) @ gain)
    assert predictor.mixture_weights(gain, spread, expected - 1e-6).sum() == pytest.approx(1)
    assert not predictor.mixture_weights(gain, spread, expected + 1e-6).any()
    assert predictor.mixture_weights(gain, spread).any(), "0.02 unless told otherwise"
    assert not predictor.mixture_weights(gain * 0.85, spread * 0.85).any()


@pytest.mark.parametrize(("sure_spreads", "spread", "is_taken"), [(2.0, 0.0049, True), (2.0, 0.0051, False), (None, 0.0, False)])
def test_a_small_gain_is_taken_where_it_is_still_one_two_spreads_below_what_is_expected(sure_spreads, spread, is_taken):
    gain, spreads = np.array([0.01, -0.2]), np.array([spread, 0.0])
    assert is_worth_it(np.array([1.0, 0.0]), gain, spreads, sure_spreads) == is_taken
    predictor = replace(stump(), margin=1.0, sure_spreads=sure_spreads)
    assert predictor.mixture_weights(gain, spreads).any() == is_taken


@pytest.mark.parametrize(("gain", "least", "is_taken"), [(0.0021, 0.02, True), (0.0019, 0.02, False), (0.0019, 0.001, True)])
def test_a_gain_of_a_fifth_of_a_point_is_not_worth_the_passes_however_sure(gain, least, is_taken):
    assert is_worth_it(np.array([1.0]), np.array([gain]), np.array([0.0]), 2.0, least) == is_taken


def test_no_mixture_is_never_worth_it():
    assert not is_worth_it(np.zeros(2), np.array([0.1, -0.1]), np.array([0.2, 0.0]), 2.0)
