"""Fitting a gain predictor: its margin keeps harm below the promised rate, and its prefilter misses next to nothing."""

import numpy as np
import pytest
import torch

from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import (
    FOLDS,
    REPEATS,
    fit_predictor,
    fit_prefilter,
    fit_universal_predictor,
    flattened,
    predict_held_out,
    ways_to_hold_out,
)
from monai_tta.preparation.margin import MARGINS, chances_of_grave_loss, choose_margin
from monai_tta.quality.features import FEATURES
from monai_tta.quality.mixture_weights import NEGLIGIBLE_GAIN
from tests.preparation.calibration_cases import calibration_set, predicted


def folds_of(cases):
    return [case.group % FOLDS for case in cases]


def is_harmed(case):
    return case.gains[1] < 0


def test_trees_predict_what_scikit_learn_predicts():
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 5)), rng.normal(size=300)
    model = ExtraTreesRegressor(20, min_samples_leaf=3, random_state=0).fit(x, y)
    ours = flattened([tree.tree_ for tree in model.estimators_])
    theirs = np.stack([tree.predict(x.astype(np.float32)) for tree in model.estimators_])
    np.testing.assert_allclose(ours.each(x), theirs, atol=1e-6)


class TestCases:
    def test_a_mixture_scores_what_its_mask_scores(self):
        (case,) = calibration_set(n=1).cases
        assert case.gain_of(np.zeros(2)) == 0
        assert case.gain_of(np.array([1.0, 0.0])) == pytest.approx(case.gains[0])
        assert case.gain_of(np.array([0.0, 1.0])) == pytest.approx(case.gains[1])

    @pytest.mark.parametrize("head", ["softmax", "sigmoid"])
    def test_dice_of_a_case_is_monais(self, head):
        from monai.metrics import DiceMetric

        rng = torch.Generator().manual_seed(0)
        label = torch.rand(2, 2, 8, 8, generator=rng) > 0.6
        label[:, 1] &= ~label[:, 0]
        p = torch.rand(3, 2, 3 if head == "softmax" else 2, 8, 8, generator=rng)
        p = p.softmax(2) if head == "softmax" else (p * 50).floor() / 50 + 0.01  # kept in half precision: away from one half
        made = CalibrationSet("a")
        nothing = torch.zeros(2, len(FEATURES))
        made.add(0, nothing, nothing, p[1:], p[0], label, head)
        structures = torch.tensor([1, 2]).view(1, 2, 1, 1)
        masks = [(q.argmax(1, keepdim=True) == structures) if head == "softmax" else q > 0.5 for q in p]
        whole = [torch.cat(list(mask), 1)[None].float() for mask in masks]  # windows side by side are one image
        whole_label = torch.cat(list(label), 1)[None].float()
        expected = [float(DiceMetric()(mask, whole_label).mean()) for mask in whole]
        (case,) = made.cases
        assert case.unadapted_dice == pytest.approx(expected[0], abs=1e-3)
        np.testing.assert_allclose(case.gains + case.unadapted_dice, expected[1:], atol=1e-3)

    def test_a_case_with_an_empty_label_is_left_out(self):
        made = CalibrationSet("a")
        empty = torch.zeros(1, 1, 4, 4)
        made.add(0, torch.zeros(2, len(FEATURES)), torch.zeros(1, len(FEATURES)), empty[None], empty, empty.bool(), "sigmoid")
        assert not made.cases


def test_what_is_fitted_compares_candidates_by_their_differences():
    assert fit_predictor(calibration_set(), 0.1).discount == "relative spread"
    cases = calibration_set().cases
    predictions = predict_held_out(cases, folds_of(cases))
    counts = [(gains.gain > gains.spread).any() for gains in predictions]
    differs = [not np.allclose(gains.discount, 2 * gains.spread) for gains in predictions]
    assert any(counts) and differs == counts, "where no candidate counts, nothing is compared"


class TestMargin:
    def test_harmless_cases_need_no_margin_and_harmful_ones_do(self):
        safe = fit_predictor(calibration_set(n=80), 0.05)
        risky = fit_predictor(calibration_set(n=80, harm=0.08), 0.05)
        assert safe.margin == MARGINS[0] and safe.about["mean gain held out"] > 0.05
        assert risky.margin > MARGINS[0] and risky.about["harm held out"] <= 0.05

    def test_it_is_the_least_that_keeps_the_rate(self):
        cases = calibration_set(n=100, harm=0.5).cases
        predictions = [predicted([-1.0, 0.2], [0.1, 0.02 + 0.1 * is_harmed(case)]) for case in cases]
        margin, gains = choose_margin(cases, [predictions], 0.02)
        assert margin == 1.75 and gains.min() >= 0 and gains.max() > 0  # at 1.75, 0.2 - 1.75 * 0.12 is below zero

    def test_it_does_not_count_on_small_expected_gains(self):
        """A few cases expect a point and lose much; with these left alone from the start no margin would be needed.

        The others are so sure that no error of the few, in their own spreads, would be a grave loss to them.
        """
        cases = calibration_set(n=100, harm=0.1).cases
        expected = [(0.01, 0.008) if is_harmed(case) else (0.2, 0.002) for case in cases]
        predictions = [predicted([-1.0, gain], [0.1, spread]) for gain, spread in expected]
        margin, gains = choose_margin(cases, [predictions], 0.05)
        assert margin > 1 and gains.min() >= 0 and gains.max() > 0

    def test_few_cases_cannot_show_a_low_rate(self):
        """No case was harmed, but one in forty may be: the rate is only shown with the finite-sample correction."""
        cases = calibration_set(n=40).cases
        predictions = [[predicted([0.1, 0.2], [0.01, 0.01])] * 40]
        assert choose_margin(cases, predictions, 0.03)[0] == MARGINS[0]
        assert choose_margin(cases, predictions, 0.02)[0] == MARGINS[-1]

    def test_grave_losses_raise_it_before_the_rate_is_used_up(self):
        sets = (calibration_set(n=100, harm=0.06, seed=seed).cases for seed in range(99))
        # One case in ten may lose more than a point, but not this many more than five.
        cases = next(cases for cases in sets if sum(case.gains[1] < -0.05 for case in cases) == 6)
        predictions = [predicted([-1.0, 0.2], [0.1, 0.02 + 0.1 * is_harmed(case)]) for case in cases]
        assert choose_margin(cases, [predictions], 0.1)[0] == 1.75

    def test_harm_is_the_mean_over_the_ways_to_hold_out(self):
        """In one of two ways the harmed are told apart, so half of them count: 3 of 100, which may be harmed, instead of 6."""
        cases = calibration_set(n=100, harm=0.06, seed=1).cases
        harmed = sum(map(is_harmed, cases))
        blind = [predicted([-1.0, 0.2], [0.1, 0.001])] * 100
        seeing = [predicted([-1.0, -0.1 if is_harmed(case) else 0.2], [0.1, 0.001]) for case in cases]
        enough = (harmed / 2 + 1) / 101
        margin, gains = choose_margin(cases, [blind, seeing], 4 * enough)  # rare grave losses are not what is looked at
        assert margin == 1 and (gains < -0.01).sum(1).tolist() == [harmed, 0]
        assert choose_margin(cases, [seeing], enough)[0] == 1 and choose_margin(cases, [blind], enough)[0] > 1

    def test_gambles_are_no_cases_to_adapt(self):
        """Twice its spread below what is expected, one mixture loses four points, the other six."""
        cases = calibration_set(n=40).cases
        for spread, is_taken in ((0.07, True), (0.08, False)):
            _, gains = choose_margin(cases, [[predicted([-1.0, 0.1], [0.1, spread])] * 40], 0.1)
            assert bool((gains > 0).any()) == is_taken

    def test_chances_of_a_grave_loss_by_hand(self):
        """Errors are -3.1, -1, 0 and 2 spreads. The least spread is so small that no error loses gravely."""
        expected = np.array([0.1, 0.1, 0.1, 0.1, 0.0])
        spreads = np.array([0.05, 0.05, 0.2, 0.01, 0.0])
        errors = np.array([-3.1, -1.0, 0.0, 2.0, 0.0])
        chances = chances_of_grave_loss(expected + errors * spreads, expected, spreads)
        np.testing.assert_allclose(chances, [0.25, 0.25, 0.5, 0.0, 0.0])  # limits: -3, -3, -0.75, -15


class TestPrefilter:
    def test_it_stops_hopeless_cases_and_misses_next_to_nothing(self):
        """Half of the cases cannot gain, and the source's own answers show which."""
        cases = calibration_set(n=120, seed=4).cases
        where = FEATURES.index("foreground fraction")
        gains = []
        for case in cases:
            is_hopeful = bool(case.group % 2)
            case.source_features[:, where] = is_hopeful
            gains.append(float(max(case.gains.max(), 0.01)) if is_hopeful else 0.0)
        prefilter, threshold, share = fit_prefilter(cases, gains, folds_of(cases))
        expected = np.array([prefilter.each(case.source_features.reshape(1, -1)).mean() for case in cases])
        stopped = expected <= threshold
        assert stopped.mean() > 0.4 and share > 0.4 and threshold <= NEGLIGIBLE_GAIN
        assert not any(is_stopped and gain > 0.05 for gain, is_stopped in zip(gains, stopped, strict=True))

    def test_it_stops_no_gain_where_it_cannot_tell(self):
        """Gains of a tenth or nothing, at random: the source's answers do not show which."""
        cases = calibration_set(n=120, seed=5).cases
        rng = np.random.default_rng(0)
        for case in cases:
            case.source_features[:] = rng.normal(size=case.source_features.shape)
        gains = [0.1 * float(rng.uniform() < 0.3) for _ in cases]
        _, threshold, share = fit_prefilter(cases, gains, folds_of(cases))
        assert threshold <= NEGLIGIBLE_GAIN and share < 0.05

    def test_it_stops_all_where_nothing_can_be_gained(self):
        cases = calibration_set(n=60).cases
        _, _, share = fit_prefilter(cases, [0.0] * 60, folds_of(cases))
        assert share == 1


class TestFolds:
    @pytest.fixture
    def seen(self, monkeypatch):
        """The cases and folds that predictions were asked for."""
        seen = []

        def predict_held_out(cases, folds):
            seen.append((cases, list(folds)))
            return [predicted([1.0, 1.0], [1.0, 1.0])] * len(cases)

        monkeypatch.setattr("monai_tta.preparation.fit.predict_held_out", predict_held_out)
        return seen

    def test_cases_of_one_image_are_never_on_both_sides(self, seen):
        fit_predictor(calibration_set(), 0.1)
        assert len(seen) == REPEATS and len({tuple(folds) for _, folds in seen}) == REPEATS
        for cases, folds in seen:
            for group in range(12):
                assert len({fold for case, fold in zip(cases, folds, strict=True) if case.group == group}) == 1
            assert len(set(folds)) == FOLDS

    def test_folds_have_as_many_images_each_whatever_their_numbers_are(self):
        for folds in ways_to_hold_out([7, 100, 3, 50, 51, 52, 53, 54, 60, 61]):
            assert sorted(folds) == sorted([0, 1, 2, 3, 4] * 2)

    def test_networks_of_one_task_are_never_on_both_sides(self, seen):
        fit_universal_predictor([calibration_set("a/1", 10), calibration_set("a/2", 10, 1), calibration_set("b/1", 10, 2)], 0.1)
        ((_, folds),) = seen
        assert folds == [0] * 20 + [1] * 10

    def test_a_universal_predictor_is_fitted_to_all_networks(self):
        networks = [calibration_set("a/1", 20), calibration_set("a/2", 20, 1), calibration_set("b/1", 20, 2)]
        predictor = fit_universal_predictor(networks, 0.1)
        assert predictor.about["cases"] == 60 and predictor.about["networks"] == ["a/1", "a/2", "b/1"]


def test_too_few_images_are_refused():
    few = calibration_set(n=60)
    few.cases = [case for case in few.cases if case.group < 3]
    with pytest.raises(ValueError, match="3 labelled images"):
        fit_predictor(few, 0.1)


def test_too_few_cases_to_show_the_rate_are_refused():
    with pytest.raises(ValueError, match="a rate of 0.03 cannot be shown on 32 cases: at least 33"):
        fit_predictor(calibration_set(n=32), 0.03)
    fit_predictor(calibration_set(n=33), 0.03)
