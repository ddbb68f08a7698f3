"""A continual stream whose answers degenerate restarts; one that only learns does not."""

import pickle

import pytest
import torch

from monai_tta import AdaptiveInferer, Statistics, Tent
from monai_tta.core.optimizers import Adam
from monai_tta.guards.collapse import Collapse
from monai_tta.inference.streams import streams
from tests.small import DESCENTS, NEEDS_RUNNING_STATS, ROWS, changed, image, inferer, network

STRICT = Collapse(patience=1, foreground=1.5, entropy=1.5)
UNSTABLE = Tent(optimizer=Adam(lr=0.3))


def stream(method, cases=4, collapse=STRICT, dims=3, head="softmax", **choices):
    """Records of a stream, its last answer, and the shadow that it keeps."""
    net = network(dims=dims, head=head)
    run = inferer(method, head, reset="never", collapse=collapse, **choices)
    with torch.no_grad():
        for seed in range(cases):
            answer = run(image(dims, seed=seed), net)
    return list(run.cases), answer, streams[run].shadows.get(net, (None, None))[1]


@pytest.mark.parametrize("choice", [{"foreground": 1}, {"entropy": 0.5}, {"patience": 0}, {"weight_distance": 0}])
def test_collapse_is_a_value_that_refuses_meaningless_choices(choice):
    with pytest.raises(ValueError, match="found"):
        Collapse(**choice)
    assert pickle.loads(pickle.dumps(STRICT)) == STRICT == eval(repr(STRICT)) and hash(STRICT) == hash(STRICT)
    with pytest.raises(ValueError, match="collapse"):
        AdaptiveInferer(8, collapse=3)


@pytest.mark.parametrize("learn", ["volume", "window"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_stream_that_degenerates_restarts_with_a_fresh_shadow(dims, head, learn):
    with pytest.warns(UserWarning, match="the stream restarted"):
        cases, answer, shadow = stream(UNSTABLE, dims=dims, head=head, learn=learn)
    restarts = [case.number for case in cases if case.restarted]
    assert restarts and 0 not in restarts and all(case.adapted for case in cases)
    first = restarts[0]
    with pytest.warns(UserWarning):
        _, answer, _ = stream(UNSTABLE, first + 1, dims=dims, head=head, learn=learn)
    with torch.no_grad():
        fresh = inferer(UNSTABLE, head, reset="never", learn=learn, seed=first)
        expected = fresh(image(dims, seed=first), network(dims=dims, head=head))
    assert torch.equal(answer, expected), "predicted by a fresh shadow"
    assert fresh.cases[-1].weight_distance == cases[first].weight_distance and cases[first].n_windows == fresh.cases[-1].n_windows


@pytest.mark.parametrize("row", DESCENTS)
def test_a_stream_with_a_usual_learning_rate_does_not_restart(row):
    method = changed(ROWS[row], optimizer=Adam(lr=1e-3))
    cases, _, shadow = stream(method, collapse=Collapse())
    assert not any(case.restarted for case in cases)
    if row == "DLTTA":  # its rate falls where cases are answered alike, as these are
        assert cases[-1].weight_distance > cases[0].weight_distance
    elif row not in NEEDS_RUNNING_STATS:  # their prompts start anew with each image
        assert cases[-1].weight_distance > 2 * cases[0].weight_distance
    assert shadow.suspicious_cases == 0


def test_patience_counts_cases_in_a_row():
    with pytest.warns(UserWarning, match="3 cases in a row"):
        cases, _, _ = stream(UNSTABLE, 9, Collapse(foreground=1.5, entropy=1.5, weight_distance=99.0))
    restarts = [case.number for case in cases if case.restarted]
    assert restarts and restarts[0] >= 3 and all(b - a > 3 for a, b in zip(restarts, restarts[1:], strict=False))


def test_one_unsuspicious_case_resets_the_count(monkeypatch):
    reasons = iter(["odd", "odd", None, "odd", "odd", "odd", None])
    monkeypatch.setattr(Collapse, "reason_to_suspect", lambda self, evidence: next(reasons))
    with pytest.warns(UserWarning, match="odd, 3 cases in a row"):
        cases, _, shadow = stream(ROWS["Tent"], 8, Collapse(weight_distance=99.0))
    assert [case.number for case in cases if case.restarted] == [6]


def test_weights_that_moved_too_far_restart_the_stream_at_once():
    with pytest.warns(UserWarning, match="the weights moved by"):
        cases, _, _ = stream(ROWS["Tent"], 4, Collapse(weight_distance=0.1))
    assert [bool(case.restarted) for case in cases] == [False, True, True, True]
    assert len({round(case.weight_distance, 3) for case in cases}) == 1


def test_an_answer_that_is_not_finite_restarts_the_stream_and_is_adapted_again():
    class Overflowing(Tent):
        def predict(self, shadow, windows):
            return super().predict(shadow, windows) * (float("inf") if shadow.weight_distance > 0.21 else 1)

    with pytest.warns(UserWarning, match="restarted: the shadow's answer is not finite"):
        cases, answer, _ = stream(Overflowing(optimizer=ROWS["Tent"].optimizer), 2)
    assert answer.isfinite().all() and cases[-1].adapted


def test_no_restart_without_limits_in_episodes_or_without_learning():
    with pytest.warns(UserWarning, match="restarted"):
        assert any(case.restarted for case in stream(UNSTABLE)[0])
    assert not any(case.restarted for case in stream(UNSTABLE, collapse=None)[0])
    run, net = inferer(UNSTABLE, collapse=STRICT), network()
    for seed in range(3):
        run(image(seed=seed), net)
    assert not any(case.restarted for case in run.cases)
    cases, _, _ = stream(Statistics(blend=1.0), collapse=STRICT)
    assert not any(case.restarted for case in cases), "nothing was learnt"


def test_what_statistics_correct_is_no_collapse():
    """Present statistics change the answer of a shifted image; the stream did not learn that."""
    import dataclasses

    net = network()
    with torch.no_grad():
        net[4].running_mean.add_(20)  # the ReLU behind it lets next to nothing through: the source is uncertain everywhere
        net[6].weight.mul_(8)
    run = inferer(dataclasses.replace(ROWS["Tent"], optimizer=Adam(lr=1e-4)), reset="never", collapse=STRICT)
    with torch.no_grad():
        answers = [run(image(seed=s), net) for s in range(3)]
        unadapted = AdaptiveInferer.__mro__[1](8, 2, 0.5)(image(seed=2), net)
    assert not torch.allclose(answers[-1].softmax(1), unadapted.softmax(1), atol=0.2) and not any(c.restarted for c in run.cases)


def test_processes_that_learn_together_keep_the_unadapted_answer_and_restart_together(tmp_path):
    """None of them adapts to the case again by itself, because it would wait for the others."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        with pytest.warns(UserWarning):
            cases, _, _ = stream(UNSTABLE, 4, together=True)
    finally:
        dist.destroy_process_group()
    restarted = [case for case in cases if case.restarted]
    assert restarted and all(case.reason == case.restarted for case in restarted)
    after = [case for case in cases if case.number == restarted[0].number + 1]
    assert all(case.weight_distance == pytest.approx(cases[0].weight_distance, rel=1e-3) for case in after)
