"""`Careful`: the judge's word is followed, plainly where it says so, and an answer costs what is said."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_tta import AdaptiveInferer, Careful, Statistics, ViewAverage
from monai_tta.core.image_edits import EDITS
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import Views
from monai_tta.methods.careful import marks, usual_candidates
from monai_tta.quality.features import CANDIDATE_FEATURES, FEATURES, candidate_answers, describe, plain_answer
from tests.small import BLENDED, image, inferer, judged, network, run, stump


def careful(name, **choices):
    return Careful(predictor=judged(name, **choices), candidates=BLENDED)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_judge_who_expects_nothing_leaves_the_source_alone(head):
    net, x = network(head=head), image()
    made = inferer(careful("hopeless", low=-0.1, high=-0.1), head)
    with pytest.warns(UserWarning, match="expects no gain"):
        assert torch.equal(made(x, net), SlidingWindowInferer(8, 2, 0.5)(x, net))
    assert (
        made.cases[-1].reason.endswith("no gain of more than 2 points of Dice that it is sure of (at best -10.0)")
        and not made.cases[-1].adapted
    )


def test_a_margin_makes_a_hopeful_judge_wary():
    sure, wary = stump(low=0.1, high=0.3), stump(low=0.1, high=0.3, margin=1e9)
    table = torch.zeros(2, len(FEATURES)).numpy()
    assert sure.weigh(table).sum() == pytest.approx(1) and wary.weigh(table).sum() == pytest.approx(1)  # one tree: no spread


@pytest.mark.parametrize("size", [8, 12])
def test_the_preferred_candidate_answers(size):
    """One candidate's views, by a judge who has eyes for averages of the blended one alone."""
    net, x = network(dims=2), image(2, size=size)
    blended = careful("blended", low=-5.0, high=0.1, feature="blend", at=0.2)
    answer, case = run(net, blended, x, sw_batch_size=1, head="softmax")
    names = [n for n in case.steps[0].notes if n != "expected gain"]
    assert len(names) == 2 and all("blend=0.5" in n for n in names)
    if size == 8:
        pooled = Statistics(blend=0.5, statistics="volume").begin(net, "softmax")
        pooled.pool_statistics(x)
        front, averaged = candidate_answers(pooled, x, Views())
        torch.testing.assert_close(answer.softmax(1), (front.p + averaged.p) / 2, rtol=1e-4, atol=1e-5)
    else:  # several windows: statistics are the teaching windows', the answer is every window's
        assert answer.shape == (1, 3, 12, 12)
        assert not torch.allclose(answer, run(net, Statistics(blend=0.5, statistics="volume"), x, head="softmax")[0], atol=1e-4)


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("size", [8, 12])
def test_view_average_of_the_source_alone_is_view_average(size, thorough):
    """Even from the front: a judge who trusts averages alone gets them."""
    net, x = network(dims=2), image(2, size=size)
    predictor = judged("average", low=-5.0, high=0.1, feature="averaged", at=0.5)
    alone = Careful(predictor=predictor, candidates=(Statistics(blend=0.0),), thorough=thorough)
    torch.testing.assert_close(
        run(net, alone, x, head="softmax")[0].softmax(1),
        run(net, ViewAverage(), x, head="softmax")[0].softmax(1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_missing_judge_is_named_and_the_plain_answer_given():
    net, x = network(), image()
    with pytest.warns(UserWarning, match=r"nowhere\.npz does not exist"):
        answer, case = run(net, Careful(predictor="/some/where/nowhere.npz"), x, head="softmax")
    assert "/some" not in case.to_json()
    torch.testing.assert_close(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))
    assert "monai-tta calibrate" in case.reason


def test_a_judge_of_other_features_is_refused():
    with pytest.warns(UserWarning, match="calibrate again"):
        _, case = run(network(), careful("other", features=("blend", "charm")), head="softmax")
    assert case.reason


def test_networks_with_memory_try_blends_and_others_retouch():
    pooled = [("volume", b) for b in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1)]
    assert [(c.statistics, c.blend) for c in usual_candidates(network("batch"))] == pooled
    several = usual_candidates(network("batch"), windows=2)
    assert [(c.statistics, c.blend) for c in several] == [*pooled, ("window", 0.3), ("window", 1.0)]
    assert [dict(zip(CANDIDATE_FEATURES, marks(c), strict=True))["by window"] for c in several] == [0] * 7 + [1] * 2
    source, step, *edit_image = usual_candidates(network("instance"))
    assert not source.learns and step.learns and [c.way for c in edit_image] == list(EDITS)


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_usual_candidates_answer(kind, dims):
    made = inferer(Careful(predictor=judged("hopeful")), "softmax")
    answer = made(image(dims), network(kind, dims))
    assert answer.isfinite().all() and made.cases[-1].reason is None
    assert (made.cases[-1].weight_distance > 0) == (kind != "batch")


def test_window_by_window_is_refused_as_it_decides_once_for_a_volume():
    with pytest.raises(ValueError, match="learn='volume'"):
        AdaptiveInferer(8, method=Careful(), learn="window")


def test_cost_is_what_the_docstring_says():
    """Forward passes: plain and distances of the teaching windows, gathering and views of each candidate; nothing more for an
    image that is one window."""
    net, x, counted = network(dims=2), image(2, size=8), []
    net.register_forward_hook(lambda m, i, o: counted.append(len(i[0])))
    run(net, careful("hopeful"), x, head="softmax")
    views = len(Views().of((8, 8)))
    assert sum(counted) == 2 + 2 * (1 + views)
    counted.clear()
    with pytest.warns(UserWarning, match="at first sight"):
        _, case = run(net, careful("not bothered", prefilter_threshold=0.0), x, head="softmax")
    assert sum(counted) == 2 + (1 + views) + 1 and not case.adapted  # and the plain answer


def test_a_scout_hears_the_source_alone():
    """What it is asked about is what the judge's table would say of the source's answers if there were no others."""
    net, x = network(dims=2), image(2, size=8)
    method = careful("hopeful")
    council = method.begin(net, "softmax")
    heard = method.run_candidates(council, x)
    shadow = Shadow(net, "softmax", None)
    front, averaged = candidate_answers(shadow, x, Views())
    alone = describe([averaged, front], plain_answer(shadow, x), "softmax", shadow.distances(x))
    torch.testing.assert_close(heard.first, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(heard.table[:2], heard.first)  # the consensus is another's where others are heard


def test_from_the_front_alone_an_image_of_several_windows_costs_one_pass_for_each_candidate():
    net, x, counted = network(dims=2), image(2, size=20), []
    net.register_forward_hook(lambda m, i, o: counted.append(len(i[0])))
    answers, costs = [], []
    for thorough in (True, False):
        counted.clear()
        made = Careful(predictor=judged("hopeful"), candidates=BLENDED, thorough=thorough)
        answers.append(run(net, made, x, head="softmax", budget=1)[0])
        costs.append(sum(counted))
    windows, views = 16, len(Views().of((8, 8)))
    assert costs[0] - costs[1] == windows * 2 * views
    assert not torch.allclose(*answers) and torch.allclose(answers[1].softmax(1).sum(1), torch.ones(1, 20, 20), atol=1e-5)


def test_features_are_named_in_order_and_know_the_source():
    net, x = network(dims=2), image(2, size=8)
    shadow = Shadow(net, "softmax", None)
    front, averaged = candidate_answers(shadow, x, Views())
    table = describe([averaged, front], plain_answer(shadow, x), "softmax", shadow.distances(x))
    assert table.shape == (2, len(FEATURES)) and table.isfinite().all()
    of = dict(zip(FEATURES, table[1].tolist(), strict=True))
    assert (
        of["averaged"] == 0
        and of["likeness to plain"] == pytest.approx(1, abs=1e-6)
        and of["growth"] == pytest.approx(0, abs=1e-6)
    )
    assert of["late"] > 0 and table[0, FEATURES.index("averaged")] == 1
    assert all(of[f"{n} - source"] == of[n] - table[0, FEATURES.index(n)] for n in ("agreement", "entropy"))


def test_a_poisoned_image_is_answered_plainly():
    x = image()
    x[...] = float("nan")
    with pytest.warns(UserWarning):
        _, case = run(network(), careful("hopeful"), x, head="softmax")
    assert case.reason
