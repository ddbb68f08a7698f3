"""`Careful`: the gain predictor decides, the source answers where it says so, and an answer costs what the docs say."""

from dataclasses import replace

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_tta import AdaptiveInferer, Careful, Statistics, ViewAverage
from monai_tta.compute.count_passes import count_passes
from monai_tta.core.image_edits import EDITS
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.methods.careful_candidates import QUICK_VIEWS, quick_candidates, usual_candidates
from monai_tta.quality.candidates import try_candidate
from monai_tta.quality.features import (
    CANDIDATE_FEATURES,
    FEATURES,
    candidate_answers,
    candidate_row,
    feature_table,
    unaugmented_answer,
)
from monai_tta.quality.gain_predictor import GainPredictor
from tests.small import BLENDED, image, inferer, network, run, saved_stump, stump

NOTHING = candidate_row({})


def careful(name, **choices):
    return Careful(predictor=saved_stump(name, **choices), candidates=BLENDED)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_predictor_that_expects_nothing_leaves_the_source_alone(head):
    net, x = network(head=head), image()
    made = inferer(careful("hopeless", low=-0.1, high=-0.1), head)
    with pytest.warns(UserWarning, match="expects no gain"):
        assert torch.equal(made(x, net), SlidingWindowInferer(8, 2, 0.5)(x, net))
    assert (
        made.cases[-1].reason.endswith("no gain of more than 2 points of Dice that it is sure of (at best -10.0)")
        and not made.cases[-1].adapted
    )


def test_a_margin_needs_a_spread_to_act():
    without = stump(low=0.1, high=0.3)
    with_margin = stump(low=0.1, high=0.3, margin=1e9)
    table = torch.zeros(2, len(FEATURES)).numpy()
    assert without.weights(table).sum() == pytest.approx(1) and with_margin.weights(table).sum() == pytest.approx(
        1
    )  # one tree: no spread


@pytest.mark.parametrize("size", [8, 12])
def test_the_candidate_with_the_expected_gain_answers(size):
    """Both answers of the blended candidate, by a predictor that looks at the blend alone."""
    net, x = network(dims=2), image(2, size=size)
    blended = careful("blended", low=-5.0, high=0.1, feature="blend", at=0.2)
    answer, case = run(net, blended, x, sw_batch_size=1, head="softmax")
    names = [n for n in case.steps[0].notes if n != "expected gain"]
    assert len(names) == 2 and all("blend=0.5" in n for n in names)
    if size == 8:
        pooled = Statistics(blend=0.5, statistics="volume").begin(net, "softmax")
        pooled.pool_statistics(x)
        unaugmented, averaged = candidate_answers(pooled, x, Views(), NOTHING)
        torch.testing.assert_close(
            answer.softmax(1), (unaugmented.probabilities + averaged.probabilities) / 2, rtol=1e-4, atol=1e-5
        )
    else:  # several windows: statistics are the adaptation windows', the answer is every window's
        assert answer.shape == (1, 3, 12, 12)
        assert not torch.allclose(answer, run(net, Statistics(blend=0.5, statistics="volume"), x, head="softmax")[0], atol=1e-4)


@pytest.mark.parametrize("rest", ["mixture", "un-augmented"])
@pytest.mark.parametrize("size", [8, 12])
def test_view_average_of_the_source_alone_is_view_average(size, rest):
    """Even with rest="un-augmented": a predictor that expects a gain of averages alone gets averages."""
    net, x = network(dims=2), image(2, size=size)
    predictor = saved_stump("average", low=-5.0, high=0.1, feature="averaged over views", at=0.5)
    alone = Careful(predictor=predictor, candidates=(Statistics(blend=0.0),), rest=rest)
    torch.testing.assert_close(
        run(net, alone, x, head="softmax")[0].softmax(1),
        run(net, ViewAverage(), x, head="softmax")[0].softmax(1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_missing_predictor_is_named_and_the_source_answers():
    net, x = network(), image()
    with pytest.warns(UserWarning, match=r"nowhere\.npz does not exist"):
        answer, case = run(net, Careful(predictor="/some/where/nowhere.npz"), x, head="softmax")
    assert "/some" not in case.to_json()
    torch.testing.assert_close(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))
    assert "monai-tta calibrate" in case.reason


def test_a_predictor_of_other_features_is_refused():
    with pytest.warns(UserWarning, match="calibrate again"):
        _, case = run(network(), careful("other", features=("blend", "charm")), head="softmax")
    assert case.reason


def test_networks_with_running_statistics_try_blends_and_others_edit_the_image():
    pooled = [("volume", b) for b in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1)]
    assert [(c.statistics, c.blend) for c in usual_candidates(network("batch"))] == pooled
    several = usual_candidates(network("batch"), n_windows=2)
    assert [(c.statistics, c.blend) for c in several] == [*pooled, ("window", 0.3), ("window", 1.0)]
    assert [
        dict(zip(CANDIDATE_FEATURES, candidate_row(c.candidate_features), strict=True))["window statistics"] for c in several
    ] == [0] * 7 + [1] * 2
    source, step, *edits = usual_candidates(network("instance"))
    assert not source.learns and step.learns and [c.edit for c in edits] == list(EDITS)


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_usual_candidates_answer(kind, dims):
    made = inferer(Careful(predictor=saved_stump("hopeful")), "softmax")
    answer = made(image(dims), network(kind, dims))
    assert answer.isfinite().all() and made.cases[-1].reason is None
    assert (made.cases[-1].weight_distance > 0) == (kind != "batch")


def test_window_by_window_is_refused_as_it_decides_once_for_a_volume():
    with pytest.raises(ValueError, match="learn='volume'"):
        AdaptiveInferer(8, method=Careful(), learn="window")


def test_cost_is_what_the_docstring_says():
    """Forward passes: the unadapted answer and the distances of the adaptation windows, then pooling and views of each candidate;
    nothing more for an image of one window."""
    net, x, counted = network(dims=2), image(2, size=8), []
    net.register_forward_hook(lambda m, i, o: counted.append(len(i[0])))
    run(net, careful("hopeful"), x, head="softmax")
    views = len(Views().of((8, 8)))
    assert sum(counted) == 2 + 2 * (1 + views)
    counted.clear()
    with pytest.warns(UserWarning, match="prefilter expects no gain"):
        _, case = run(net, careful("filtered", prefilter_threshold=0.0), x, head="softmax")
    assert sum(counted) == 2 + (1 + views) + 1 and not case.adapted  # and the unadapted answer


def test_the_prefilter_sees_the_source_alone():
    """It gets the features that the source's answers would have if there were no other candidates."""
    net, x = network(dims=2), image(2, size=8)
    method = careful("hopeful")
    pool = method.begin(net, "softmax")
    results = method.run_candidates(pool, x)
    shadow = Shadow(net, "softmax", None)
    unaugmented, averaged = candidate_answers(shadow, x, Views(), NOTHING)
    alone = feature_table([averaged, unaugmented], unaugmented_answer(shadow, x), "softmax", shadow.distances(x))
    torch.testing.assert_close(results.source_features, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(results.features[:2], results.source_features)  # with other candidates the mean answer is another


def test_unaugmented_answers_of_an_image_of_several_windows_cost_one_pass_for_each_candidate():
    net, x, counted = network(dims=2), image(2, size=20), []
    net.register_forward_hook(lambda m, i, o: counted.append(len(i[0])))
    answers, costs = [], []
    for rest in ("mixture", "un-augmented"):
        counted.clear()
        made = Careful(predictor=saved_stump("hopeful"), candidates=BLENDED, rest=rest)
        answers.append(run(net, made, x, head="softmax", budget=1)[0])
        costs.append(sum(counted))
    windows, views = 16, len(Views().of((8, 8)))
    assert costs[0] - costs[1] == windows * 2 * views
    assert not torch.allclose(*answers) and torch.allclose(answers[1].softmax(1).sum(1), torch.ones(1, 20, 20), atol=1e-5)


def test_features_are_named_in_order_and_know_the_source():
    net, x = network(dims=2), image(2, size=8)
    shadow = Shadow(net, "softmax", None)
    unaugmented, averaged = candidate_answers(shadow, x, Views(), NOTHING)
    table = feature_table([averaged, unaugmented], unaugmented_answer(shadow, x), "softmax", shadow.distances(x))
    assert table.shape == (2, len(FEATURES)) and table.isfinite().all()
    of = dict(zip(FEATURES, table[1].tolist(), strict=True))
    assert (
        of["averaged over views"] == 0
        and of["agreement with the unadapted answer"] == pytest.approx(1, abs=1e-6)
        and of["foreground growth"] == pytest.approx(0, abs=1e-6)
    )
    assert of["distance of late layers"] > 0 and table[0, FEATURES.index("averaged over views")] == 1
    assert all(of[f"{n} - source"] == of[n] - table[0, FEATURES.index(n)] for n in ("view agreement", "entropy"))


def test_the_source_answers_an_image_of_nan():
    x = image()
    x[...] = float("nan")
    with pytest.warns(UserWarning):
        _, case = run(network(), careful("hopeful"), x, head="softmax")
    assert case.reason


def test_a_candidate_that_says_nothing_of_itself_is_refused():
    class Silent(Statistics):
        candidate_features = AdaptationMethod.candidate_features

    with pytest.raises(NotImplementedError, match="candidate_features"):
        Careful(candidates=(Statistics(blend=0.0), Silent()))


def test_a_candidate_runs_as_its_caller_does():
    pool = Careful(predictor="universal").begin(network(dims=2), "softmax")
    pool.precision, pool.voxels_at_once = "fast", 64
    for trial in try_candidate(Statistics(blend=0.5, statistics="volume"), pool, image(2), Views()):
        assert (trial.shadow.precision, trial.shadow.voxels_at_once) == ("fast", 64)


@pytest.mark.parametrize("size", [8, 12])  # a single window is answered while candidates are tried, several are answered again
def test_candidates_answer_in_the_views_that_the_predictor_was_fitted_with(size, tmp_path):
    net, x = network(dims=2), image(2, size=size)
    choices = {"low": -5.0, "high": 0.1, "feature": "averaged over views", "at": 0.5}
    few = Views(axes=(1,), turns=False)
    replace(stump(**choices), views=few).save(tmp_path / "few.npz")
    answer, _ = run(net, Careful(predictor=str(tmp_path / "few.npz"), candidates=BLENDED), x, head="softmax")
    given = Careful(predictor=saved_stump("usual views", **choices), candidates=BLENDED)
    assert torch.equal(answer, run(net, replace(given, views=few), x, head="softmax")[0])
    assert not torch.allclose(answer, run(net, given, x, head="softmax")[0], atol=1e-4)
    own = Careful(predictor=str(tmp_path / "few.npz"), candidates=BLENDED, views=Views(axes=(0,), turns=False))
    chosen = replace(given, views=own.views)
    assert torch.equal(run(net, own, x, head="softmax")[0], run(net, chosen, x, head="softmax")[0])


class TestQuick:
    """A gain predictor that was made with few candidates and views has no others tried."""

    def quick(self, name, tmp_path, **choices):
        file = tmp_path / f"{name}.npz"
        replace(stump(**choices), quick=True).save(file)
        assert GainPredictor.load(file).quick and not stump().quick
        return Careful(predictor=str(file))

    @pytest.mark.parametrize("dims, usual, quick", [(2, 51, 10), (3, 37, 10)])
    def test_it_costs_a_fraction(self, dims, usual, quick, tmp_path):
        net, x = network(dims=dims), image(dims, 8)
        costs = []
        for method in (Careful(predictor=saved_stump("hopeful")), self.quick("hopeful", tmp_path)):
            with count_passes(net) as passes:
                run(net, method, x, head="softmax")
            costs.append(passes.forwards)
        assert costs == [usual, quick]

    def test_the_answer_is_that_of_its_candidates_in_its_views(self, tmp_path):
        net, x = network(dims=2), image(2, size=12)  # several windows: the rest of the image is answered in its views, too
        choices = {"low": -5.0, "high": 0.1, "feature": "averaged over views", "at": 0.5}
        answer, case = run(net, self.quick("average", tmp_path, **choices), x, sw_batch_size=1, head="softmax")
        given = Careful(predictor=saved_stump("average", **choices), candidates=quick_candidates(), views=QUICK_VIEWS)
        expected, by_hand = run(net, given, x, sw_batch_size=1, head="softmax")
        assert torch.equal(answer, expected) and case.steps == by_hand.steps and len(case.steps[0].notes) == 4
        other, _ = run(net, replace(given, views=Views()), x, sw_batch_size=1, head="softmax")
        assert not torch.allclose(answer, other, atol=1e-4)

    def test_candidates_that_are_given_are_tried_in_views_that_are_given(self, tmp_path):
        net, x = network(dims=2), image(2, 8)
        given = replace(self.quick("hopeful", tmp_path), candidates=BLENDED)
        expected = Careful(predictor=saved_stump("hopeful"), candidates=BLENDED)
        assert torch.equal(run(net, given, x, head="softmax")[0], run(net, expected, x, head="softmax")[0])
