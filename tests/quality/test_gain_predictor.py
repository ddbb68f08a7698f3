"""The judge: its trees say what scikit-learn's say, its file holds numbers only, its margin keeps harm where it was promised."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import (
    FOLDS,
    MARGINS,
    NEGLIGIBLE_GAIN,
    choose_margin,
    fit_predictor,
    fit_prefilter,
    fit_universal_predictor,
    flattened,
)
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor, PredictorError, candidate_weights, exceeds_margin
from tests.small import stump


def cases(name="a/b", n=60, seed=0, harm=0.0):
    """Cases of two answers each: the first as good as the plain one, the second better by what its feature says, but for a
    share ``harm`` of the cases, in which it misses everything."""
    rng = np.random.default_rng(seed)
    made = CalibrationSet(name)
    for k in range(n):
        truth = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
        truth[..., 2:8, 2:8] = True
        quality = rng.uniform()
        plain = truth.float() * 0.9
        plain[..., 2:5, :] = 0.1
        better = truth.float() * 0.9
        better[..., 2 : 5 - int(3 * quality), :] = 0.1
        if rng.uniform() < harm:
            better = better * 0
        table = torch.from_numpy(rng.normal(size=(2, len(FEATURES))))
        table[:, FEATURES.index("late")] = quality
        table[:, FEATURES.index("blend")] = torch.tensor([0.0, 1.0])
        made.add(k % 12, table, table, torch.stack([plain, better]), plain, truth, "sigmoid")
    return made


def test_trees_say_what_scikit_learn_says():
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 5)), rng.normal(size=300)
    model = ExtraTreesRegressor(20, min_samples_leaf=3, random_state=0).fit(x, y)
    ours = flattened([t.tree_ for t in model.estimators_])
    theirs = np.stack([t.predict(x.astype(np.float32)) for t in model.estimators_])
    np.testing.assert_allclose(ours.each(x), theirs, atol=1e-6)


def test_a_file_gives_the_same_judge_back(tmp_path):
    predictor = fit_predictor(cases(), 0.1)
    predictor.save(tmp_path / "judge.npz")
    again = GainPredictor.load(tmp_path / "judge.npz")
    table = cases(seed=3).known[0].table
    np.testing.assert_array_equal(again.weights(table), predictor.weights(table))
    assert (again.margin, again.features, again.about) == (predictor.margin, predictor.features, predictor.about)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04\x95pickle"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "judge.npz").write_bytes(content)
    with pytest.raises(PredictorError, match=r"judge\.npz cannot be read"):
        GainPredictor.load(tmp_path / "judge.npz")


def test_a_pickle_in_the_file_is_not_opened(tmp_path):
    opened = tmp_path / "opened"

    class Bomb:
        def __reduce__(self):
            return (open, (str(opened), "w"))

    arrays = {**vars(stump().forest), "said": np.array([Bomb()], dtype=object)}
    np.savez(tmp_path / "judge.npz", **arrays)
    with pytest.raises(PredictorError):
        GainPredictor.load(tmp_path / "judge.npz")
    assert not opened.exists()


@pytest.mark.parametrize(
    "field, value", [("left", 0), ("right", 99), ("left", -5), ("feature", 999), ("value", np.nan), ("roots", 7)]
)
def test_a_forest_that_leads_nowhere_is_refused(tmp_path, field, value):
    predictor = stump()
    getattr(predictor.forest, field)[0] = value
    predictor.save(tmp_path / "judge.npz")
    with pytest.raises(PredictorError):
        GainPredictor.load(tmp_path / "judge.npz")


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_tta.quality.gain_predictor.FORMAT", 99)
    stump().save(tmp_path / "judge.npz")
    monkeypatch.undo()
    with pytest.raises(PredictorError, match="format 99"):
        GainPredictor.load(tmp_path / "judge.npz")


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.5)), min_size=1, max_size=8), st.floats(0.005, 1))
@settings(deadline=None)
def test_shares_are_a_mixture_of_sure_gains_that_prefers_the_least_doubtful(said, temperature):
    gain, spread = np.array(said).T
    shares = candidate_weights(gain, spread, temperature)
    assert (shares[gain <= spread] == 0).all() and (shares >= 0).all()
    assert shares.sum() == (pytest.approx(1) if (gain > spread).any() else 0)
    if (gain > spread).any():
        sure = np.where(gain > spread, gain - 2 * spread, -np.inf)
        assert shares[sure.argmax()] == shares.max()


def test_shares_go_with_the_gain_that_is_left_after_two_spreads():
    shares = candidate_weights(np.array([0.05, 0.08, 0.02]), np.array([0.01, 0.04, 0.03]), 0.03)
    assert shares[2] == 0 and shares[0] / shares[1] == pytest.approx(np.exp((0.03 - 0.0) / 0.03))


def test_a_gain_must_outweigh_its_spread():
    gain, spread = np.array([0.02, -0.1]), np.array([0.01, 0.0])
    assert exceeds_margin(gain, spread, 1.9) and not exceeds_margin(gain, spread, 2.1)
    assert not exceeds_margin(np.zeros(2), np.zeros(2), 0)


def test_what_is_not_worth_the_risk_is_left_alone():
    """Sure, but little: the mixture is expected to gain two points at 0.02, and nothing more counts."""
    predictor = fit_predictor(cases(n=80), 0.05)
    gain, spread = np.array([0.03, 0.011]), np.array([0.001, 0.001])
    mixture = float(candidate_weights(gain, spread, predictor.temperature) @ gain)
    assert predictor.mixture_weights(gain, spread, mixture - 1e-6).sum() == pytest.approx(1)
    assert not predictor.mixture_weights(gain, spread, mixture + 1e-6).any()
    assert (
        predictor.mixture_weights(gain, spread).any() and not predictor.mixture_weights(gain * 0.8, spread).any()
    )  # worth 0.02 unless told otherwise


def test_the_margin_does_not_count_on_what_is_not_worth_it():
    """Every tenth case expects a point and loses six; with these left alone from the start no margin would be needed."""
    known = cases(n=100, harm=0.1).known
    said = [(np.array([-1.0, 0.01 if k.gains[1] < 0 else 0.2]), np.array([0.1, 0.008])) for k in known]
    margin, left = choose_margin(known, said, 0.05)
    assert margin > 1 and min(left) >= 0 and max(left) > 0


def test_a_mixture_scores_what_its_mask_scores():
    case = cases(n=1).known[0]
    assert case.gain_of(np.zeros(2)) == 0
    assert case.gain_of(np.array([1.0, 0.0])) == pytest.approx(case.gains[0])
    assert case.gain_of(np.array([0.0, 1.0])) == pytest.approx(case.gains[1])


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_dice_of_a_case_is_monais(head):
    from monai.metrics import DiceMetric

    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 2, 8, 8, generator=rng) > 0.6
    truth[:, 1] &= ~truth[:, 0]
    p = torch.rand(3, 2, 3 if head == "softmax" else 2, 8, 8, generator=rng)
    p = p.softmax(2) if head == "softmax" else (p * 50).floor() / 50 + 0.01  # kept in half precision: away from one half
    made = CalibrationSet("a")
    made.add(0, torch.zeros(2, len(FEATURES)), torch.zeros(2, len(FEATURES)), p[1:], p[0], truth, head)
    masks = [(q.argmax(1, keepdim=True) == torch.tensor([1, 2]).view(1, 2, 1, 1)) if head == "softmax" else q > 0.5 for q in p]
    whole = [torch.cat(list(m), 1)[None].float() for m in masks]  # windows side by side are one image
    expected = [float(DiceMetric()(m, torch.cat(list(truth), 1)[None].float()).mean()) for m in whole]
    known = made.known[0]
    assert known.plain == pytest.approx(expected[0], abs=1e-3)
    np.testing.assert_allclose(known.gains + known.plain, expected[1:], atol=1e-3)


def test_a_case_without_anything_to_find_teaches_nothing():
    made = CalibrationSet("a")
    nothing = torch.zeros(1, 1, 4, 4)
    made.add(0, torch.zeros(2, len(FEATURES)), torch.zeros(1, len(FEATURES)), nothing[None], nothing, nothing.bool(), "sigmoid")
    assert not made.known


def test_harmless_cases_need_no_margin_and_harmful_ones_do():
    safe, risky = fit_predictor(cases(n=80), 0.05), fit_predictor(cases(n=80, harm=0.08), 0.05)
    assert safe.margin == MARGINS[0] and safe.about["mean gain held out"] > 0.05
    assert risky.margin > MARGINS[0] and risky.about["harm held out"] <= 0.05


def test_the_margin_is_the_least_that_keeps_the_rate():
    known = cases(n=100, harm=0.5).known
    said = [(np.array([-1.0, 0.2]), np.array([0.1, 0.05 + 0.1 * (k.gains[1] < 0)])) for k in known]
    margin, left = choose_margin(known, said, 0.02)
    assert margin == 1.5 and min(left) >= 0 and max(left) > 0  # at 1.5, 0.2 - 1.5 * 0.15 is below zero


def test_a_scout_misses_next_to_nothing_and_sends_hopeless_cases_home():
    """Half of the cases can't gain, and show it in what the source says."""
    known = cases(n=120, seed=4).known
    where = FEATURES.index("foreground fraction")
    left = []
    for k in known:
        hopeful = bool(k.group % 2)
        k.first[:, where] = hopeful
        left.append(float(max(k.gains.max(), 0.01)) if hopeful else 0.0)
    prefilter, prefilter_threshold, spared = fit_prefilter(known, left, [k.group % FOLDS for k in known])
    expected = np.array([prefilter.each(k.first.reshape(1, -1)).mean() for k in known])
    gone = expected <= prefilter_threshold
    assert gone.mean() > 0.4 and spared > 0.4 and prefilter_threshold <= NEGLIGIBLE_GAIN
    assert not any(g and v > 0.05 for v, g in zip(left, gone, strict=True))


def test_a_scout_who_cannot_tell_sends_nobody_with_something_to_gain_home():
    """Gains of a tenth or nothing at random: the least that is expected is a gainer's or above what is little."""
    known = cases(n=120, seed=5).known
    rng = np.random.default_rng(0)
    for k in known:
        k.first[:] = rng.normal(size=k.first.shape)
    left = [0.1 * float(rng.uniform() < 0.3) for _ in known]
    _, prefilter_threshold, spared = fit_prefilter(known, left, [k.group % FOLDS for k in known])
    assert prefilter_threshold <= NEGLIGIBLE_GAIN and spared < 0.05


def test_where_nothing_can_be_gained_nobody_is_heard():
    known = cases(n=60).known
    _, _, spared = fit_prefilter(known, [0.0] * 60, [k.group % FOLDS for k in known])
    assert spared == 1


def test_an_images_cases_are_never_on_both_sides(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "monai_tta.preparation.fit.held_out_gains",
        lambda known, folds: seen.append((known, folds)) or [(np.ones(2), np.ones(2))] * len(known),
    )
    fit_predictor(cases(), 0.1)
    known, folds = seen[0]
    assert all(len({f for k, f in zip(known, folds, strict=True) if k.group == g}) == 1 for g in range(12))
    assert len(set(folds)) == FOLDS


def test_too_few_images_are_refused():
    few = cases(n=60)
    few.known = [k for k in few.known if k.group < 3]
    with pytest.raises(ValueError, match="3 labelled images"):
        fit_predictor(few, 0.1)


def test_a_pooled_judge_knows_all_networks():
    predictor = fit_universal_predictor([cases("a/1", 20), cases("a/2", 20, 1), cases("b/1", 20, 2)], 0.1)
    assert predictor.about["cases"] == 60 and predictor.about["networks"] == ["a/1", "a/2", "b/1"]


def test_few_cases_cannot_show_a_low_rate():
    """No case was harmed, but one in forty may be: the rate is only shown with the finite-sample correction."""
    known = cases(n=40).known
    said = [(np.array([0.1, 0.2]), np.array([0.01, 0.01]))] * 40
    assert choose_margin(known, said, 0.03)[0] == MARGINS[0] and choose_margin(known, said, 0.02)[0] == MARGINS[-1]


def test_grave_losses_raise_the_margin_before_the_rate_is_used_up():
    every = (cases(n=100, harm=0.06, seed=seed).known for seed in range(99))
    known = next(some for some in every if sum(k.gains[1] < -0.05 for k in some) == 6)  # one in ten may, but not this much
    said = [(np.array([-1.0, 0.2]), np.array([0.1, 0.05 + 0.1 * (k.gains[1] < 0)])) for k in known]
    assert choose_margin(known, said, 0.1)[0] == 1.5


def test_no_task_judges_its_own_networks(monkeypatch):
    seen = []

    def held_out_gains(known, folds):
        seen.append(folds)
        return [(np.ones(2), np.ones(2))] * len(known)

    monkeypatch.setattr("monai_tta.preparation.fit.held_out_gains", held_out_gains)
    fit_universal_predictor([cases("a/1", 10), cases("a/2", 10, 1), cases("b/1", 10, 2)], 0.1)
    assert list(seen[0]) == [0] * 20 + [1] * 10
