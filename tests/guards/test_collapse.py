"""A continual stream that degenerates is restarted; one that only learns is not."""

import pickle

import pytest
import torch

from monai_tta import AdaptiveInferer, Statistics, Tent
from monai_tta.core.optimizers import Adam
from monai_tta.guards.collapse import Collapse
from monai_tta.inference.inferer import _streams
from tests.small import LEARNERS, ROWS, image, inferer, network

EAGER = Collapse(patience=1, foreground=1.5, entropy=1.5)
HASTY = Tent(optimizer=Adam(lr=0.3))


def stream(method, cases=4, collapse=EAGER, dims=3, head="softmax", **choices):
    """The records, the last answer, and what the stream carries on."""
    net = network(dims=dims, head=head)
    run = inferer(method, head, reset="never", collapse=collapse, **choices)
    with torch.no_grad():
        for seed in range(cases):
            answer = run(image(dims, seed=seed), net)
    return list(run.cases), answer, _streams[run].shadows.get(net, (None, None))[1]


@pytest.mark.parametrize("choice", [{"foreground": 1}, {"entropy": 0.5}, {"patience": 0}, {"weight_distance": 0}])
def test_a_value_that_refuses_nonsense(choice):
    with pytest.raises(ValueError, match="found"):
        Collapse(**choice)
    assert pickle.loads(pickle.dumps(EAGER)) == EAGER == eval(repr(EAGER)) and hash(EAGER) == hash(EAGER)
    with pytest.raises(ValueError, match="collapse"):
        AdaptiveInferer(8, collapse=3)


@pytest.mark.parametrize("learn", ["volume", "window"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_stream_that_goes_wrong_is_restarted(dims, head, learn):
    with pytest.warns(UserWarning, match="the stream restarted"):
        cases, answer, shadow = stream(HASTY, dims=dims, head=head, learn=learn)
    anew = [case.number for case in cases if case.restarted]
    assert 0 not in anew and anew and all(case.adapted for case in cases)
    first = anew[0]
    with pytest.warns(UserWarning):
        _, answer, _ = stream(HASTY, first + 1, dims=dims, head=head, learn=learn)
    with torch.no_grad():
        fresh = inferer(HASTY, head, reset="never", learn=learn, seed=first)
        expected = fresh(image(dims, seed=first), network(dims=dims, head=head))
    assert torch.equal(answer, expected), "answered by a newborn shadow"
    assert fresh.cases[-1].weight_distance == cases[first].weight_distance and cases[first].n_windows == fresh.cases[-1].n_windows


@pytest.mark.parametrize("row", LEARNERS)
def test_a_stream_that_learns_at_its_rate_goes_on(row):
    import dataclasses

    method = dataclasses.replace(ROWS[row], optimizer=Adam(lr=1e-3))
    cases, _, shadow = stream(method, collapse=Collapse())
    assert not any(case.restarted for case in cases) and cases[-1].weight_distance > 2 * cases[0].weight_distance
    assert shadow.suspicious_cases == 0


def test_patience_counts_cases_in_a_row():
    with pytest.warns(UserWarning, match="3 cases in a row"):
        cases, _, _ = stream(HASTY, 9, Collapse(foreground=1.5, entropy=1.5, weight_distance=99.0))
    anew = [case.number for case in cases if case.restarted]
    assert anew and anew[0] >= 3 and all(b - a > 3 for a, b in zip(anew, anew[1:], strict=False))


def test_one_good_case_restores_patience(monkeypatch):
    said = iter(["odd", "odd", None, "odd", "odd", "odd", None])
    monkeypatch.setattr(Collapse, "suspicion", lambda self, evidence: next(said))
    with pytest.warns(UserWarning, match="odd, 3 cases in a row"):
        cases, _, shadow = stream(ROWS["Tent"], 8, Collapse(weight_distance=99.0))
    assert [case.number for case in cases if case.restarted] == [6]


def test_weights_that_went_too_far_have_no_patience():
    with pytest.warns(UserWarning, match="the weights travelled"):
        cases, _, _ = stream(ROWS["Tent"], 4, Collapse(weight_distance=0.1))
    assert [bool(case.restarted) for case in cases] == [False, True, True, True]
    assert len({round(case.weight_distance, 3) for case in cases}) == 1


def test_not_finite_is_restarted_not_left_unadapted():
    class Overflowing(Tent):
        def predict(self, shadow, windows):
            return super().predict(shadow, windows) * (float("inf") if shadow.weight_distance > 0.21 else 1)

    with pytest.warns(UserWarning, match="restarted: the shadow's answer is not finite"):
        cases, answer, _ = stream(Overflowing(optimizer=ROWS["Tent"].optimizer), 2)
    assert answer.isfinite().all() and cases[-1].adapted


def test_never_and_not_for_episodes():
    with pytest.warns(UserWarning, match="restarted"):
        assert any(case.restarted for case in stream(HASTY)[0])
    assert not any(case.restarted for case in stream(HASTY, collapse=None)[0])
    run, net = inferer(HASTY, collapse=EAGER), network()
    for seed in range(3):
        run(image(seed=seed), net)
    assert not any(case.restarted for case in run.cases)
    cases, _, _ = stream(Statistics(blend=1.0), collapse=EAGER)
    assert not any(case.restarted for case in cases), "nothing was learnt"


def test_what_statistics_mend_is_no_collapse():
    """A shifted image is answered otherwise by present statistics than by the source's: not the stream's doing."""
    import dataclasses

    net = network()
    with torch.no_grad():
        net[4].running_mean.add_(20)  # the source sees nothing behind it, and is certain of nothing
        net[6].weight.mul_(8)
    run = inferer(dataclasses.replace(ROWS["Tent"], optimizer=Adam(lr=1e-4)), reset="never", collapse=EAGER)
    with torch.no_grad():
        answers = [run(image(seed=s), net) for s in range(3)]
        unadapted = AdaptiveInferer.__mro__[1](8, 2, 0.5)(image(seed=2), net)
    assert not torch.allclose(answers[-1].softmax(1), unadapted.softmax(1), atol=0.2) and not any(c.restarted for c in run.cases)


def test_processes_that_learn_together_answer_plainly_and_begin_anew_together(tmp_path):
    """None of them learns the case again by itself: the others would wait for it."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        with pytest.warns(UserWarning):
            cases, _, _ = stream(HASTY, 4, together=True)
    finally:
        dist.destroy_process_group()
    anew = [case for case in cases if case.restarted]
    assert anew and all(case.reason == case.restarted for case in anew)
    after = [case for case in cases if case.number == anew[0].number + 1]
    assert all(case.weight_distance == pytest.approx(cases[0].weight_distance, rel=1e-3) for case in after)
