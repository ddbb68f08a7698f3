"""Where nobody says which poses training showed, a network is calibrated in those that it answers as the plain one."""

from dataclasses import replace

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from docs.universal.networks import ALL_VIEWS
from monai_tta import Careful, Statistics
from monai_tta.core.views import Views
from monai_tta.preparation.calibrate_network import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import collect_cases
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.labelled_images import UsableImage
from monai_tta.preparation.source_views import measured_views
from monai_tta.preparation.trials import KeptTrials
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.quality_predictor import QualityPredictor
from tests.small import image

TWO = Careful(candidates=(Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume")))
SETTINGS = CalibrationSettings(size=10, harm=0.1, budget=1, method=TWO)


class KnowsPlaces(nn.Module):
    """Finds what is bright, and along some axes only in the first half of a window, as if training had shown one pose alone.

    Args:
        axes: these axes.
        dims: of a window.
    """

    def __init__(self, axes, dims):
        super().__init__()
        self.axes = axes
        self.norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](1, affine=True)
        self.eval()

    def forward(self, x):
        logits = self.norm(x) - 1
        for axis in self.axes:
            half = x.shape[axis + 2] // 2
            place = torch.arange(x.shape[axis + 2]).view(-1, *[1] * (x.ndim - 3 - axis))
            logits = torch.where(place < half, logits, logits - 100.0)
        return logits


def usable(network, dims=2, n=6, size=8):
    """Images of noise, whose labels do not count here."""
    return [UsableImage(image(dims, size, seed=k)[0], torch.ones(1, *[size] * dims), network) for k in range(n)]


@pytest.mark.parametrize(
    ("axes", "dims", "views"),
    [
        ((), 2, Views(axes=(0, 1), turns=True)),
        ((0,), 2, Views(axes=(1,), turns=False)),
        ((0, 1), 2, Views(axes=(), turns=False)),
        ((), 3, Views(axes=(0, 1, 2), turns=False)),
        ((1,), 3, Views(axes=(0, 2), turns=False)),
    ],
)
def test_poses_are_kept_in_which_the_network_answers_alike(axes, dims, views):
    found, words = measured_views(SETTINGS, usable(KnowsPlaces(axes, dims), dims), SlidingWindowInferer(8), "sigmoid")
    assert found == views
    for axis in range(dims):
        assert (f"mirrored along axis {axis} 0.00 (left out)" in words) == (axis in axes)
        assert (f"mirrored along axis {axis} 1.00" in words) == (axis not in axes)
    assert ("turned 1 x 90 degrees" in words) == (dims == 2)


def test_the_middle_image_counts_and_not_one_that_is_odd():
    images = usable(KnowsPlaces((), 2)) + usable(KnowsPlaces((0, 1), 2), n=5)
    assert measured_views(SETTINGS, images, SlidingWindowInferer(8), "sigmoid")[0] == Views(axes=(0, 1), turns=True)


def test_the_quick_way_keeps_one_mirror_at_most():
    quick = replace(SETTINGS, quick=True)
    for axes, kept in {(): (0,), (0,): (1,), (0, 1): ()}.items():
        found, words = measured_views(quick, usable(KnowsPlaces(axes, 2)), SlidingWindowInferer(8), "sigmoid")
        assert found == Views(axes=kept, turns=False)
        assert words.count("(left out)") == 5 - len(kept), "of two mirrors and three turns"


def named(views, **more):
    return replace(SETTINGS, method=replace(TWO, views=views), **more)


@pytest.mark.parametrize("views", [Views(axes=(0,), turns=False), Views(axes=(), turns=True), Views(mirrors="all")])
def test_views_that_are_named_are_not_measured(views):
    assert measured_views(named(views), usable(KnowsPlaces((0,), 2)), SlidingWindowInferer(8), "sigmoid") == (views, "")


def test_an_empty_answer_tells_nothing():
    finds_nothing = KnowsPlaces((), 2)
    finds_nothing.norm.bias.data -= 100
    assert measured_views(SETTINGS, usable(finds_nothing), SlidingWindowInferer(8), "sigmoid") == (Views(), "")


@pytest.mark.parametrize(("knows_one_pose", "turns", "quick"), [((), True, False), ((0,), False, False), ((), False, True)])
@pytest.mark.parametrize("axes", [(), (0,)])
def test_turns_are_measured_where_the_mirrors_alone_are_named(axes, knows_one_pose, turns, quick):
    images = usable(KnowsPlaces(knows_one_pose, 2))
    found, words = measured_views(named(Views(axes=axes), quick=quick), images, SlidingWindowInferer(8), "sigmoid")
    assert found == Views(axes=axes, turns=turns)
    assert "mirrored" not in words and words.count("turned") == 3


def test_mirrors_are_measured_where_turns_alone_are_named():
    found, words = measured_views(named(Views(turns=True)), usable(KnowsPlaces((0,), 2)), SlidingWindowInferer(8), "sigmoid")
    assert found == Views(axes=(1,), turns=True)
    assert words.count("mirrored") == 2 and "turned" not in words


def test_volumes_whose_mirrors_are_named_have_nothing_to_measure():
    views = Views(axes=(0, 2))
    assert measured_views(named(views), usable(KnowsPlaces((), 3), 3), SlidingWindowInferer(8), "sigmoid") == (views, "")


def labelled(n=6):
    images = [image(2, 16, seed=k)[0] for k in range(n)]
    return images, [(x > 1).float() for x in images]


def test_both_predictors_keep_the_measured_views_and_say_how_they_agreed(tmp_path):
    images, labels = labelled()
    network = KnowsPlaces((0,), 2)
    predictor = calibrate_network(network, images, labels, roi_size=8, settings=SETTINGS, quality=tmp_path / "quality.npz")
    quality = QualityPredictor.load(tmp_path / "quality.npz")
    assert predictor.views == quality.views == Views(axes=(1,), turns=False)
    assert predictor.about["views"] == quality.about["views"]
    assert "mirrored along axis 0 0.00 (left out); mirrored along axis 1 1.00;" in str(predictor.about["views"])
    predictor.save(tmp_path / "gain.npz")
    assert GainPredictor.load(tmp_path / "gain.npz").views == predictor.views


def test_a_calibration_that_goes_on_measures_nothing_again(tmp_path, monkeypatch):
    images, labels = labelled()
    made = {}
    for name in ("first", "again"):
        made[name] = CalibrationSet(name)
        how = {"head": "sigmoid", "inferer": SlidingWindowInferer(8), "settings": SETTINGS}
        list(collect_cases(made[name], KnowsPlaces((0,), 2), images, labels, trials=KeptTrials(tmp_path, "x"), **how))
        monkeypatch.setattr("monai_tta.preparation.source_figures.measured_views", lambda *_: pytest.fail("measured again"))
    assert made["again"].views == made["first"].views == Views(axes=(1,), turns=False)
    assert made["again"].agreement == made["first"].agreement != ""
    agreements = [case.features[:, FEATURES.index("view agreement")].min() for case in made["first"].cases]
    assert min(agreements) > 0.999, "in the views that were left out the network answers otherwise"


@pytest.mark.parametrize("shape", [(8, 8), (8, 6), (8, 8, 8), (4, 6, 8)])
def test_the_universal_predictor_is_made_in_the_views_in_which_it_answers(shape):
    named = ALL_VIEWS[len(shape)]
    assert named != Views() and named.of(shape) == Views().of(shape), "named views are not measured"


@pytest.mark.parametrize(
    ("named", "of_predictor", "found"),
    [
        (Views(), Views(axes=(1,), turns=False), Views(axes=(1,), turns=False)),
        (Views(axes=(0,)), Views(axes=(0,), turns=False), Views(axes=(0,), turns=False)),
        (Views(turns=True), Views(axes=(1,), turns=False), Views(axes=(1,), turns=True)),
        (Views(axes=(), turns=True), Views(axes=(1,), turns=False), Views(axes=(), turns=True)),
        (Views(mirrors="all"), Views(axes=(1,), turns=False), Views(mirrors="all")),
        (Views(axes=(0,)), None, Views(axes=(0,))),
    ],
)
def test_candidates_answer_in_the_measured_views_where_the_method_names_none(named, of_predictor, found):
    assert Careful(views=named).views_for(False, of_predictor) == found
