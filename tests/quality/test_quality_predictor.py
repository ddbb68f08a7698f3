"""The quality predictor: its curve, its interval, its file, and the figures that it sees."""

import sys
from dataclasses import replace
from math import inf, log

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.isotonic import IsotonicRegression

from monai_tta import Views
from monai_tta.core.record import StructureQuality
from monai_tta.preparation.fit_quality import Rows, fit_curve
from monai_tta.quality import structure_features
from monai_tta.quality.conformal import conformal_tails, interval_of
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.predictor_files import as_quality_predictor
from monai_tta.quality.quality_predictor import QualityPredictor, rank_score
from monai_tta.quality.structure_features import SIGNALS, STRUCTURE_FEATURES, found_nothing, own_figures, structure_table
from monai_tta.quality.temperature import with_temperature
from tests.small import network, quality_stub

COLUMN = STRUCTURE_FEATURES.index


def rows_of(signal, dice, name="pairwise Dice of views"):
    table = np.zeros((len(dice), len(STRUCTURE_FEATURES)))
    table[:, COLUMN(name)] = signal
    n = np.arange(len(dice))
    return Rows(table, np.array(dice, float), n % 5, n % 2 > 0, 1.0 + n % 3)


class TestCurve:
    @pytest.mark.parametrize("name", ["pairwise Dice of views", "entropy inside"])
    def test_it_says_what_scikit_learns_says(self, name):
        rng = np.random.default_rng(0)
        signal = rng.uniform(size=200)
        rows = rows_of(signal, np.clip(SIGNALS[name] * signal + 0.5 + rng.normal(0, 0.2, 200), 0, 1), name)
        theirs = IsotonicRegression(increasing=SIGNALS[name] > 0, out_of_bounds="clip")
        theirs.fit(signal, rows.truth, sample_weight=rows.weight)
        asked = rows_of(np.linspace(-0.5, 1.5, 77), np.zeros(77), name).table
        curve = fit_curve(rows, name)
        assert np.allclose(curve(asked), theirs.predict(np.linspace(-0.5, 1.5, 77)), atol=1e-12)
        assert (np.diff(curve(asked)) * SIGNALS[name] >= 0).all()

    def test_an_empty_mask_has_a_value_of_its_own(self):
        rows = rows_of([0.5, 0.6, 0.7, 0.8], [1, 0.2, 0.3, 0])
        rows.table[[0, 3], COLUMN("log volume")] = log(1e-4)
        curve = fit_curve(rows, "pairwise Dice of views")
        assert found_nothing(rows.table).tolist() == [True, False, False, True]
        assert np.allclose(curve(rows.table), [1.5 / 3, 0.2, 0.3, 1.5 / 3])


class TestInterval:
    @pytest.mark.parametrize(
        "n, rate, ends",
        [(19, 0.9, (1, 19)), (39, 0.9, (2, 38)), (9, 0.9, (-inf, inf)), (19, 0.8, (2, 18)), (99, 0.5, (25, 75))],
    )
    def test_quantiles_are_those_computed_by_hand(self, n, rate, ends):
        """Of 19 scores at 90 %: the floor(20 x .05) = first smallest and the ceil(20 x .95) = 19th."""
        scores = np.random.default_rng(0).permutation(n) + 1.0
        assert conformal_tails(scores, rate, n) == ends
        three_of_each = np.repeat(scores, 3)
        assert conformal_tails(three_of_each, rate, n) == ends, "several scores to a case count as one case"

    def test_new_cases_lie_inside_as_often_as_stated(self):
        rng = np.random.default_rng(1)
        held = []
        for _ in range(400):
            low, high = conformal_tails(rng.exponential(size=59), 0.9, 59)
            new = rng.exponential(size=50)
            held.append(np.mean((low <= new) & (new <= high)))
        assert abs(np.mean(held) - 0.9) < 0.01, "exactly (57 - 3) of 60"

    def test_it_lies_in_zero_to_one_and_holds_the_prediction(self):
        expected = np.array([0.0, 0.5, 1.0])
        low, high = interval_of(expected, np.ones(3), np.array([[-3.0, 3.0], [0.1, 0.2], [-0.5, -0.2]]))
        assert np.allclose(low, [0, 0.48, 0.5], atol=1e-5) and np.allclose(high, [1, 0.7, 1], atol=1e-5)


class TestPredictor:
    TABLE = np.zeros((2, len(STRUCTURE_FEATURES)))

    def test_its_file_says_the_same_without_scikit_learn(self, tmp_path, monkeypatch):
        made = quality_stub(network(dims=2), views=Views(axes=(0, 1)), temperature=1.5)
        made.save(tmp_path / "q.npz")
        monkeypatch.setitem(sys.modules, "sklearn", None)
        read = as_quality_predictor(tmp_path / "q.npz")
        assert read.predict(self.TABLE, True) == made.predict(self.TABLE, True)
        assert (read.views, read.budget, read.temperature, read.network) == (Views(axes=(0, 1)), 1, 1.5, made.network)
        (first, second) = read.predict(self.TABLE, False)
        assert first.structure == 1 and second.structure == 2
        assert (first.dice, first.low, first.high) == pytest.approx((0.8, 0.7, 0.88), abs=1e-5)
        assert (first.nsd, first.nsd_low, first.nsd_high) == pytest.approx((0.9, 0.8, 0.98), abs=1e-5)

    def test_what_cannot_be_used_is_refused_in_words(self, tmp_path, monkeypatch):
        made = quality_stub(network(dims=2))
        file = tmp_path / "q.npz"
        with pytest.raises(PredictorError, match="does not exist: `monai-tta calibrate"):
            QualityPredictor.load(file)
        file.write_bytes(b"PK\x03\x04 half")
        with pytest.raises(PredictorError, match="cannot be read as a quality predictor"):
            QualityPredictor.load(file)
        replace(made, features=("another",) + STRUCTURE_FEATURES[1:]).save(file)
        with pytest.raises(PredictorError, match="fitted to other features"):
            QualityPredictor.load(file)
        first = made.structures[0]
        replace(made, structures=(replace(first, nsd=replace(first.nsd, tails=np.full((2, 2), np.nan))),)).save(file)
        with pytest.raises(PredictorError, match="intervals are of another form"):
            QualityPredictor.load(file)
        monkeypatch.setattr("monai_tta.quality.quality_predictor.FORMAT", 99)
        made.save(file)
        monkeypatch.undo()
        with pytest.raises(PredictorError, match="format 99, .*; calibrate again"):
            QualityPredictor.load(file)
        with pytest.raises(PredictorError, match="fitted to 2 structures, and the network answers 3"):
            made.predict(np.zeros((3, len(STRUCTURE_FEATURES))), True)

    def test_the_chance_of_a_worse_mask(self):
        """The quantiles of the scores go evenly from -1 to 1 spread: from .7 to .9."""
        made = quality_stub(network(dims=2), low=-1.0, high=1.0)
        said = StructureQuality(
            structure=1, dice=0.8, low=0.7, high=0.9, spread=0.1, nsd=0.1, nsd_low=0.0, nsd_high=0.2, ranking=0.8
        )
        chances = [made.chance_below(said, True, dice) for dice in (0.6, 0.75, 0.8001, 0.95)]
        assert chances == pytest.approx([0, 0.25, 0.505, 1], abs=0.01)


def test_masks_are_ranked_by_the_expected_dice_and_by_what_views_agree_on():
    row = np.zeros(len(STRUCTURE_FEATURES))
    row[STRUCTURE_FEATURES.index("pairwise Dice of views")] = 0.9
    row[STRUCTURE_FEATURES.index("least pairwise Dice of views")] = 0.6
    assert rank_score(0.75, row) == pytest.approx(0.75)
    row[STRUCTURE_FEATURES.index("log volume")] = np.log(structure_features.TINY)
    assert rank_score(0.3, row) == 0.3, "views agree on nothing at all without a reason"
    made = quality_stub(network(dims=2))
    table = np.stack([row, row])
    assert [one.ranking for one in made.predict(table, False)] == [one.dice for one in made.predict(table, False)]


@pytest.mark.parametrize(
    ("views", "is_alone"), [(Views(axes=(), turns=False), True), (Views(axes=(0,)), False), (Views(), False)]
)
def test_a_view_alone_agrees_with_itself_without_a_reason(views, is_alone):
    made = replace(quality_stub(network(dims=2)), views=views)
    said = made.predict(np.ones((2, len(STRUCTURE_FEATURES))), False)
    assert [one.ranking == one.dice for one in said] == [is_alone] * 2


def one_hot(*rows):
    """Probabilities ``(1, 3, 1, n)`` of class numbers."""
    return [torch.nn.functional.one_hot(torch.tensor(row), 3).T[None, :, None].float() for row in rows]


class TestFigures:
    def test_those_of_views_are_those_counted_by_hand(self):
        a, b, c = one_hot([1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0])
        (found,) = own_figures((a,), [a, b, c], "softmax")
        pairs = [2 / 3, 4 / 5, 2 / 4]  # a and b, a and c, b and c
        assert found[0, :2].tolist() == pytest.approx([np.mean(pairs), min(pairs)])
        assert found[1, :2].tolist() == [1, 1], "nothing agrees with nothing"
        mean = np.array([1, 2 / 3, 1 / 3, 0])
        soft = [2 * np.minimum(p, mean).sum() / (sum(p) + 2) for p in ([1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0])]
        assert found[0, 2:5].tolist() == pytest.approx([np.mean(soft), min(soft), soft[0]], abs=1e-4)

    def test_a_single_view_agrees_with_itself(self):
        (a,) = one_hot([1, 1, 0, 0])
        (found,) = own_figures((a,), [a], "softmax")
        assert found[0, :5].tolist() == pytest.approx([1] * 5)

    def test_those_of_masks_are_those_counted_by_hand(self):
        p = torch.tensor([0.9, 0.8, 0.3, 0.1])
        answer = p[None, None, None]
        (found,) = own_figures((answer,), [answer, answer], "sigmoid")
        said = dict(zip(STRUCTURE_FEATURES, found[0].tolist(), strict=False))
        bits = [entropy([x, 1 - x]) for x in p.tolist()]
        assert said["confidence"] == pytest.approx(0.85) and said["largest probability"] == pytest.approx(0.9)
        assert said["entropy at the border"] == pytest.approx(np.mean(bits[1:3]), abs=1e-5)
        assert said["entropy inside"] == pytest.approx(np.mean(bits[:2]), abs=1e-5)
        assert said["log volume"] == pytest.approx(log(0.5), abs=1e-3)
        assert said["log entropy per volume"] == pytest.approx(log(sum(bits) / 3), abs=1e-3)

    @pytest.mark.parametrize("shape", [(7,), (6, 5), (4, 5, 3)])
    def test_the_border_is_on_both_sides_along_every_axis(self, shape):
        masks = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0)) > 0.6
        expected = torch.zeros_like(masks)
        for place in np.ndindex(*masks.shape):
            for axis in range(2, masks.ndim):
                for step in (-1, 1):
                    other = list(place)
                    other[axis] += step
                    if 0 <= other[axis] < masks.shape[axis]:
                        expected[place] |= bool(masks[place] != masks[tuple(other)])
        assert torch.equal(structure_features._border(masks), expected)

    def test_a_table_knows_the_unadapted_answer(self):
        a, b = one_hot([1, 1, 0, 0], [1, 0, 0, 2])
        (own,) = own_figures((a,), [a, b], "softmax")
        table = structure_table(own, a, b, "softmax", [1.0, 2.0, 3.0]).numpy()
        assert table.shape == (2, len(STRUCTURE_FEATURES)) and np.isfinite(table).all()
        assert table[:, COLUMN("agreement with the unadapted answer")] == pytest.approx([2 / 3, 0], abs=1e-3)
        assert table[0, COLUMN("log growth")] == pytest.approx(log(2), abs=1e-3)
        assert table[0, -3:].tolist() == [1, 2, 3] and found_nothing(table).tolist() == [False, True]


class TestTemperature:
    def test_a_temperature_divides_logits(self):
        logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(with_temperature(logits.softmax(1), "softmax", 2.0), (logits / 2).softmax(1), atol=1e-6)
        assert torch.allclose(with_temperature(logits.sigmoid(), "sigmoid", 2.0), (logits / 2).sigmoid(), atol=1e-5)
