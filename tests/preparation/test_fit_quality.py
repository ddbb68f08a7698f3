"""The fit of a quality predictor: it finds what there is to find, and says what held on images that were held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_tta import Careful, Statistics
from monai_tta.compute.count_passes import count_passes
from monai_tta.evaluation.surface_dice import structure_nsd
from monai_tta.preparation import fit_quality as fitting
from monai_tta.preparation.calibrate_network import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import collect_cases
from monai_tta.preparation.examples import CalibrationSet, structure_dice
from monai_tta.preparation.fit_quality import Rows, fit_point, fit_quality
from monai_tta.preparation.temperature import TEMPERATURES, best_temperature, scores_by_temperature
from monai_tta.preparation.trials import KeptTrials
from monai_tta.preparation.window_pairs import paired_windows
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.quality_predictor import QualityPredictor
from monai_tta.quality.structure_features import EMPTY, STRUCTURE_FEATURES
from tests.preparation.calibration_cases import calibration_set
from tests.small import image, network

SIGNAL = STRUCTURE_FEATURES.index("view agreement")
OTHER = STRUCTURE_FEATURES.index("log growth")
QUICK = Careful(candidates=(Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume")))


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(fitting, "TREES", 5)


def truths(calibration, figure):
    return [getattr(case, f"structure_{figure}") for case in [*calibration.cases, *calibration.undistorted]]


def rows(n=400, known_by_forest=0.0, noise=0.05, seed=0):
    """Dice that one signal says but for noise, and what another figure adds, which is no signal."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(size=(n, len(STRUCTURE_FEATURES)))
    dice = 0.2 + 0.6 * table[:, SIGNAL] ** 2 + known_by_forest * (table[:, OTHER] > 0.5) + rng.normal(0, noise, n)
    return Rows(table, np.clip(dice, 0, 1), np.arange(n) % 5, np.arange(n) % 2 > 0, np.ones(n))


class TestPoint:
    def test_it_finds_the_signal_and_leaves_out_a_forest_that_knows_nothing(self):
        point = fit_point(rows(n=120, noise=0.2))
        assert STRUCTURE_FEATURES[point.curve.signal] == "view agreement" and point.share <= 0.25

    def test_it_adds_what_the_forest_knows(self):
        point = fit_point(rows(known_by_forest=0.2, noise=0.01))
        fresh = rows(known_by_forest=0.2, noise=0.01, seed=1)
        assert point.share >= 0.75
        assert np.abs(point(fresh.table) - fresh.truth).mean() < 0.8 * np.abs(point.curve(fresh.table) - fresh.truth).mean()


def test_the_interval_holds_as_often_as_stated_on_fresh_cases():
    model, about = fitting._fit_figure(rows(), 0.9, 200)
    fresh = rows(n=2000, seed=2)
    for adapted in (False, True):
        _, low, high, _ = model.interval(fresh.table, adapted)
        assert abs(np.mean((low <= fresh.truth) & (fresh.truth <= high)) - 0.9) < 0.05
    assert abs(about["coverage held out"] - 0.9) < 0.05 and about["mean absolute error held out"] < 0.1


def test_the_interval_of_a_surface_that_is_mostly_right_holds_as_often_as_stated():
    """Most true values are at or near 1, as those of a surface are, and some masks are empty, of which a third were right."""

    def mostly_right(n, seed):
        rng = np.random.default_rng(seed)
        made = rows(n=n, seed=seed)
        truth = np.clip(1.3 * made.table[:, SIGNAL] ** 0.3 + rng.normal(0, 0.05, n), 0, 1)
        empty = rng.uniform(size=n) < 0.1
        made.table[:, EMPTY] = np.where(empty, np.log(1e-4), -2.0)
        return replace(made, truth=np.where(empty, rng.uniform(size=n) < 1 / 3, truth))

    model, about = fitting._fit_figure(mostly_right(600, 0), 0.9, 600)
    fresh = mostly_right(3000, 1)
    assert np.mean(fresh.truth == 1) > 0.3
    for adapted in (False, True):
        expected, low, high, _ = model.interval(fresh.table, adapted)
        assert np.mean((low <= fresh.truth) & (fresh.truth <= high)) > 0.87
        assert ((low >= 0) & (low <= expected) & (expected <= high) & (high <= 1)).all()
    assert about["coverage held out"] > 0.87
    assert model.curve.if_empty == pytest.approx(1 / 3, abs=0.1)


def test_dice_of_a_structure_that_is_not_in_the_label():
    masks = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], bool)
    label = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
    assert structure_dice(masks, label, label.sum(1)).tolist() == pytest.approx([2 / 3, 1, 0])


class TestTemperature:
    def test_it_undoes_what_made_the_probabilities_too_sure(self):
        draw = torch.Generator().manual_seed(0)
        logits = torch.randn(1, 1, 4000, generator=draw)
        label = torch.rand(logits.shape, generator=draw) < logits.sigmoid()
        scores = scores_by_temperature((4 * logits).sigmoid(), label, "sigmoid")
        assert scores.shape == (len(TEMPERATURES), 2)
        found, before, after = best_temperature([scores, scores], [0, 1])
        assert found == pytest.approx(4, rel=0.2) and after < before / 3

    def test_the_error_is_that_of_the_other_folds_temperature(self):
        likes_low, likes_high = (np.ones((len(TEMPERATURES), 2)) for _ in range(2))
        likes_low[0] = (0, 0.1)
        likes_high[-1] = (0, 0.2)
        _, before, after = best_temperature([likes_low, likes_high], [0, 1])
        assert (before, after) == (1, 1), "what suits one fold does not suit the other"


class TestCases:
    def test_a_kept_trial_makes_the_same_predictor(self, tmp_path):
        made = []
        for _ in range(2):
            calibration = CalibrationSet("a")
            images = [image(2, 16, seed=k)[0] for k in range(6)]
            labels = [(x > 1).float() + (x > 3).float() for x in images]
            settings = CalibrationSettings(size=10, harm=0.1, budget=1, method=QUICK)
            how = {"head": "softmax", "inferer": SlidingWindowInferer(8), "settings": settings}
            list(collect_cases(calibration, network(dims=2), images, labels, trials=KeptTrials(tmp_path, "x"), **how))
            made.append(fit_quality(calibration, 1))
        first, again = made
        assert first.about == again.about and first.network == again.network and first.budget == 1
        table = calibration.cases[0].structure_features[1]
        assert first.predict(table, True) == again.predict(table, True)
        assert [one["structure"] for one in first.about["structures"]] == [1, 2]
        case = calibration.cases[0]
        assert case.structure_nsd.shape == case.structure_dice.shape and not np.allclose(case.structure_nsd, case.structure_dice)
        of_source = {name: [case_of[1, 0] for case_of in truths(calibration, name)] for name in ("dice", "nsd")}
        said = first.about["structures"][0]
        assert {name: said[name]["mean"] for name in of_source} == pytest.approx({k: np.mean(v) for k, v in of_source.items()})

    def test_surfaces_are_measured_before_voxels_are_sorted(self):
        """The answer's cube is the label's, moved by three voxels: sorted, it would be any shape."""
        label = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bool)
        label[..., 2:10, 4:12, 4:12] = True
        answer = label.roll(3, 2).float()
        calibration = CalibrationSet("a")
        table = torch.zeros(2, 1, len(STRUCTURE_FEATURES))
        row = torch.zeros(2, 3)
        made = calibration.add(0, row, row, torch.stack([answer, label.float()]), answer, label, "sigmoid", table)
        assert made.structure_nsd[:, 0].tolist() == [structure_nsd(answer > 0.5, label)[0], 1.0] and made.structure_nsd[0, 0] < 1

    def test_the_images_as_they_are_have_a_part_and_are_kept(self, tmp_path, monkeypatch):
        net = network(dims=2)
        images = [image(2, 16, seed=k)[0] for k in range(6)]
        labels = [(x > 1).float() + (x > 3).float() for x in images]
        settings = CalibrationSettings(size=10, harm=0.1, budget=4, method=QUICK)
        how = {"head": "softmax", "inferer": SlidingWindowInferer(8), "settings": settings}
        made = []
        for _ in range(2):
            calibration = CalibrationSet("a")
            list(collect_cases(calibration, net, images, labels, trials=KeptTrials(tmp_path, "x"), **how))
            made.append(calibration)
            monkeypatch.setattr(Careful, "run_candidates", lambda *_, **__: pytest.fail("it was tried again"))
        first, again = made
        assert [case.group for case in first.undistorted] == list(range(6)) and len(first.cases) == 10
        windows, own = paired_windows(net, SlidingWindowInferer(8), images[0][None], labels[0][None], "softmax", 4)
        with torch.no_grad():
            answer = net(windows).argmax(1, keepdim=True)
        overlaps = [(2 * ((answer == k) & (own == k)).sum() / ((answer == k).sum() + (own == k).sum())).item() for k in (1, 2)]
        assert first.undistorted[0].structure_dice[1] == pytest.approx(overlaps)
        for one, other in zip(first.undistorted, again.undistorted, strict=True):
            assert np.array_equal(one.structure_dice, other.structure_dice)
        monkeypatch.undo()
        about = fit_quality(first, 4).about
        assert about["cases"] == 10 and about["undistorted images"] == 6
        without = replace(first, undistorted=[])
        assert fit_quality(without, 4).about["structures"] != about["structures"]
        own = CalibrationSet("a")
        list(collect_cases(own, net, images, None, **how))
        assert own.undistorted == [], "an own answer is always right about the image that it is of"

    def test_quality_alone_tries_nothing_but_the_source_and_says_nothing_of_adapted_answers(self, tmp_path):
        net = network(dims=2)
        images = [image(2, 16, seed=k)[0] for k in range(6)]
        labels = [(x > 1).float() + (x > 3).float() for x in images]
        settings = CalibrationSettings(size=10, budget=1, quality_only=True)
        made = {}
        costs = {}
        for name, how in {"alone": settings, "usual": CalibrationSettings(size=10, harm=0.1, budget=1)}.items():
            made[name] = CalibrationSet(name)
            options = {"head": "softmax", "inferer": SlidingWindowInferer(8), "settings": how}
            with count_passes(net) as passes:
                list(collect_cases(made[name], net, images, labels, **options))
            costs[name] = passes.forwards
        calibration = made["alone"]
        assert costs["alone"] < 0.4 * costs["usual"]  # the images as they are cost both the same
        assert {len(case.gains) for case in calibration.cases} == {2}
        fitted = fit_quality(calibration, 1)
        fitted.save(tmp_path / "quality.npz")
        table = calibration.cases[0].structure_features[1]
        for predictor in (fitted, QualityPredictor.load(tmp_path / "quality.npz")):
            assert not predictor.adapted and len(predictor.predict(table, False)) == 2
            with pytest.raises(PredictorError, match="fitted to unadapted answers alone"):
                predictor.predict(table, True)
        with pytest.raises(ValueError, match="choose one of them"):
            CalibrationSettings(quick=True, quality_only=True)
        with pytest.raises(ValueError, match="with quality_only there is none"):
            calibrate_network(net, images, labels, settings=settings)

    def test_cases_that_say_nothing_of_structures_are_refused(self):
        with pytest.raises(ValueError, match="say nothing of single structures"):
            fit_quality(calibration_set(n=40), 4)
