"""What an answer is worth: on its record, from the figures that calibration saw, and without a trace in the answer."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_tta import VPTTA, AdaptiveInferer, Careful, GraTa, Source, Statistics, ViewAverage
from monai_tta.core.record import Case
from monai_tta.inference.predict_quality import BY_WINDOW
from monai_tta.preparation.window_pairs import paired_windows
from monai_tta.quality.candidates import CandidatePool
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.quality_predictor import QualityPredictor
from monai_tta.quality.structure_features import STRUCTURE_FEATURES
from tests.small import image, network, quality_stub, same, saved_stump, state

CANDIDATES = (Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume"))
CAREFUL = Careful(predictor=saved_stump("sure"), candidates=CANDIDATES)


class Seen(QualityPredictor):
    """Keeps the tables that it is asked about."""

    def predict(self, table, adapted):
        self.about.setdefault("tables", []).append((adapted, table))
        return super().predict(table, adapted)


def seen(net, budget=2):
    return Seen(**{**vars(quality_stub(net, budget=budget)), "about": {}})


@pytest.mark.parametrize(
    "method, reset, kind",
    [
        (GraTa(), "never", "batch"),
        (GraTa(), "volume", "instance"),
        (Statistics(blend=0.3), "volume", "batch"),
        (Source(), "volume", "instance"),
        (ViewAverage(), "volume", "batch"),
        (VPTTA(), "never", "batch"),
        (CAREFUL, "volume", "batch"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_nothing_else_changes_and_the_record_has_it(method, reset, kind):
    net = network(kind, dims=2)
    images = [image(2, 16, seed=k) for k in range(2)]
    before = state(net)
    found = []
    for quality in (None, quality_stub(net)):
        inferer = AdaptiveInferer(8, method=method, reset=reset, quality=quality)
        generator = torch.get_rng_state()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append([inferer(x, net) for x in images])
        assert torch.equal(generator, torch.get_rng_state()) and same(before, state(net))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)), "bit for bit"
    case = inferer.cases[-1]
    assert case.quality_note is None and [one.structure for one in case.quality] == [1, 2]
    assert (case.quality_unadapted is not None) == case.adapted
    assert Case.from_json(case.to_json()) == case


def test_the_figures_are_those_that_calibration_saw():
    """The source's own answer, and an adapted one, of the same windows."""
    net = network(dims=2)
    x = image(2, 16)
    predictor = seen(net)
    inferer = AdaptiveInferer(8, method=CANDIDATES[1], budget=2, quality=predictor)
    inferer(x, net)
    windows, _ = paired_windows(net, SlidingWindowInferer(8), x, x > 1, "softmax", 2)
    pool = CandidatePool(net, "softmax")
    calibration = CAREFUL.run_candidates(pool, windows).structure_features.numpy()
    (_, unadapted), (_, adapted) = sorted(predictor.about["tables"], key=lambda pair: pair[0])
    assert np.allclose(unadapted, calibration[1], atol=1e-6)
    assert np.allclose(adapted, calibration[3], atol=1e-6)


def test_careful_is_seen_as_the_mixture_that_it_answers():
    net = network(dims=2)
    predictor = seen(net, budget=4)
    inferer = AdaptiveInferer(16, method=CAREFUL, quality=predictor)
    inferer(image(2, 16), net)
    assert inferer.cases[-1].adapted
    table = dict(predictor.about["tables"])[True]
    agreement = table[:, STRUCTURE_FEATURES.index("agreement with the unadapted answer")]
    pairwise = table[:, STRUCTURE_FEATURES.index("pairwise Dice of views")]
    assert (agreement < 1).all() and (pairwise < 1).any(), "its views are not averages over views"


class TestUnknown:
    def test_another_network_is_noticed_said_once_and_answered_all_the_same(self):
        net = network(dims=2)
        inferer = AdaptiveInferer(8, method=Source(), quality=quality_stub(network("instance", dims=2)))
        with pytest.warns(UserWarning, match="what the answer is worth is not known: .* another network"):
            first = inferer(image(2, 16), net)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(first, inferer(image(2, 16), net))
        assert inferer.cases[-1].quality is None and "calibrate again" in inferer.cases[-1].quality_note

    def test_a_shadow_for_each_window_has_no_worth_of_its_own(self):
        net = network(dims=2)
        inferer = AdaptiveInferer(8, method=GraTa(), learn="window", quality=quality_stub(net))
        with pytest.warns(UserWarning, match="learn='window'"):
            inferer(image(2, 16), net)
        (case,) = inferer.cases
        assert case.quality is None and case.quality_unadapted is not None and case.quality_note == BY_WINDOW

    def test_a_predictor_of_unadapted_answers_says_nothing_of_adapted_ones(self):
        net = network(dims=2)
        inferer = AdaptiveInferer(8, method=CANDIDATES[1], quality=replace(quality_stub(net), adapted=False))
        with pytest.warns(UserWarning, match="unadapted answers alone"):
            inferer(image(2, 16), net)
        case = inferer.cases[-1]
        assert case.adapted and case.quality is None and len(case.quality_unadapted) == 2
        inferer = AdaptiveInferer(8, method=Source(), quality=replace(quality_stub(net), adapted=False))
        inferer(image(2, 16), net)
        assert len(inferer.cases[-1].quality) == 2

    def test_an_image_without_a_usable_window(self):
        net = network(dims=2)
        inferer = AdaptiveInferer(8, method=Source(), quality=quality_stub(net))
        with pytest.warns(UserWarning, match="constant"):
            inferer(torch.zeros(1, 1, 16, 16), net)

    def test_another_number_of_structures(self):
        net = network(dims=2)
        inferer = AdaptiveInferer(8, method=Source(), quality=quality_stub(net, structures=3))
        with pytest.warns(UserWarning, match="fitted to 3 structures, and the network answers 2"):
            inferer(image(2, 16), net)

    def test_a_file_that_is_not_there_is_refused_at_once(self, tmp_path):
        with pytest.raises(PredictorError, match="does not exist"):
            AdaptiveInferer(8, quality=tmp_path / "none.npz")

    def test_whatever_breaks_costs_no_answer(self, monkeypatch):
        net = network(dims=2)
        broken = replace(quality_stub(net), structures=(None, None))
        inferer = AdaptiveInferer(8, method=Source(), quality=broken)
        with pytest.warns(UserWarning, match="predicting the quality failed with AttributeError"):
            assert inferer(image(2, 16), net).shape == (1, 3, 16, 16)
