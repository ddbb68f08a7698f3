"""Laws that hold for every exported method: in 2D and 3D, with both heads and four kinds of normalisation."""

import copy
import pickle
from dataclasses import dataclass

import pytest
import torch
from monai.inferers import SlidingWindowInferer

import monai_tta
from monai_tta import AdaptiveInferer, Source, Statistics, methods
from monai_tta.core.optimizers import SGD
from monai_tta.core.selection import Everything, Matching, NormAffine
from monai_tta.core.wrapper import Wrapper
from monai_tta.inference.streams import streams
from tests.small import (
    LEARNERS,
    NEEDS_RUNNING_STATS,
    NORMS,
    REMEMBERING,
    ROWS,
    changed,
    fitted,
    image,
    inferer,
    innermost,
    network,
    same,
    state,
)

EACH_METHOD = pytest.mark.parametrize("row", ROWS)
EACH_LEARNER = pytest.mark.parametrize("row", LEARNERS)


def test_every_exported_method_has_a_row_and_a_citation():
    assert set(methods.__all__) == {row.partition(",")[0] for row in ROWS}  # some have rows of variants, too
    assert set(methods.__all__) < set(monai_tta.__all__)
    for name in methods.__all__:
        assert any(c.isdigit() for c in getattr(methods, name).__doc__) or name == "Source"


@EACH_METHOD
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_source_stays_and_the_answer_has_the_unadapted_ones_form(row, kind, dims, head):
    net = network(kind, dims, head)
    x = image(dims)
    unadapted = SlidingWindowInferer(8, 2, 0.5)(x, net)
    before, rng, x_before = state(net), torch.get_rng_state(), x.clone()
    with torch.no_grad():
        run = inferer(fitted(row, net, dims), head)
        answer = run(x, net)
    assert same(before, state(net)) and torch.equal(rng, torch.get_rng_state()) and torch.equal(x, x_before)
    assert answer.shape == unadapted.shape and answer.dtype == unadapted.dtype and not answer.requires_grad
    if row in NEEDS_RUNNING_STATS and kind != "batch":
        assert "keeps no running statistics" in run.cases[-1].reason and torch.equal(answer, unadapted)
        return
    assert (run.cases[-1].weight_distance > 0) == (row in LEARNERS)
    if row == "Source" or (row == "Statistics" and kind != "batch"):
        said = "nothing adapts" if row == "Source" else "the answer equals the unadapted one"
        assert said in run.cases[-1].reason and not run.cases[-1].adapted
        torch.testing.assert_close(answer, unadapted, rtol=1e-4, atol=1e-4)
        return
    assert run.cases[-1].reason is None
    assert not torch.allclose(answer, unadapted, atol=1e-4)


@EACH_LEARNER
def test_a_learning_rate_of_zero_leaves_the_statistics_alone(row):
    unmoving = changed(ROWS[row], optimizer=SGD(lr=0.0, momentum=0))
    net, x = network(), image()
    run = inferer(unmoving)
    alone = Statistics(blend=unmoving.candidate_features["blend"])
    rounding = {"rtol": 0, "atol": 5e-3} if row in NEEDS_RUNNING_STATS else {}  # its variances are unbiased ones of 512 voxels
    torch.testing.assert_close(run(x, net), inferer(alone)(x, net), **rounding)
    assert run.cases[-1].weight_distance == 0


@EACH_METHOD
def test_an_episodic_run_forgets_and_a_continual_one_remembers(row):
    net, first, second = network(), image(seed=1), image(seed=2)
    alone = inferer(ROWS[row])(second, net)
    episodic = inferer(ROWS[row])
    episodic(first, net)
    assert torch.equal(episodic(second, net), alone)
    continual = inferer(ROWS[row], reset="never")
    continual(first, net)
    assert torch.equal(continual(second, net), alone) == (row not in REMEMBERING)


@EACH_METHOD
def test_the_callers_grad_mode_changes_nothing(row):
    net, x = network(), image()
    expected = inferer(ROWS[row])(x, net)
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            answer = inferer(ROWS[row])(x, net)
        assert torch.equal(answer, expected)
        assert torch.is_grad_enabled()


def test_inference_mode_changes_nothing_where_all_weights_move():
    net, x = network(), image()
    method = changed(ROWS["Tent"], select=Everything())
    with torch.inference_mode():
        answer = inferer(method)(x, net)
    assert torch.equal(answer, inferer(method)(x, net))


@EACH_LEARNER
@pytest.mark.parametrize("learn", ["volume", "window"])
def test_autocast_answers_with_the_moved_weights(row, learn):
    net, x = network(), image()
    method = changed(ROWS[row], select=Matching(r"^6\.|weight"))
    exact = inferer(method, learn=learn)(x, net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = inferer(method, learn=learn)(x, net)
        unmoved = inferer(Statistics(blend=1.0))(x, net)
    assert (half - exact).abs().mean() < 0.2 * (half - unmoved).abs().mean()


@EACH_METHOD
def test_a_method_is_a_value(row):
    method = ROWS[row]
    assert pickle.loads(pickle.dumps(method)) == method == copy.deepcopy(method)
    assert hash(method) == hash(copy.deepcopy(method))
    public = {name: getattr(monai_tta, name) for name in monai_tta.__all__}
    assert eval(repr(method), public) == method


@EACH_METHOD
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_wrappers_loss_reaches_the_inner_method(row, weight):
    @dataclass(frozen=True, kw_only=True)
    class Pull(Wrapper):
        weight: float

        def loss(self, shadow, windows):
            return self.inner.loss(shadow, windows) + self.weight * (shadow(windows) ** 2).mean()

    net, x = network(), image()
    wrapped = inferer(Pull(inner=ROWS[row], weight=weight))(x, net)
    inner = inferer(ROWS[row])(x, net)
    assert torch.equal(wrapped, inner) == (weight == 0 or row not in LEARNERS)


@EACH_METHOD
def test_a_continual_run_starts_again_when_the_source_gets_new_weights(row):
    net, x = network(), image()
    run = inferer(ROWS[row], reset="never")
    run(x, net)
    with torch.no_grad():
        net[6].weight.mul_(-2)
    fresh = inferer(ROWS[row], reset="never", seed=1)  # the seed of the second case of the run above
    torch.testing.assert_close(run(x, net), fresh(x, net))


@EACH_LEARNER
@pytest.mark.parametrize("select", [NormAffine(), Matching(r"^3\."), Everything()])
def test_only_selected_tensors_move(row, select):
    net, x = network(), image()
    run = inferer(changed(ROWS[row], select=select), reset="never")
    run(x, net)
    shadow = streams[run].shadows[net][1]
    names = [name for name, _ in net.named_parameters()]
    moved = {name for name in names if not torch.equal(shadow.module.get_parameter(name), net.get_parameter(name))}
    assert moved and moved <= set(shadow.names) == set(select(net))
    for name in set(names) - set(shadow.names):
        assert shadow.module.get_parameter(name).data_ptr() == net.get_parameter(name).data_ptr()


@EACH_METHOD
@pytest.mark.parametrize("statistics", ["window", "volume"])
def test_the_batch_size_of_windows_changes_rounding_only(row, statistics):
    method = ROWS[row]
    if hasattr(innermost(method), "statistics"):
        method = changed(method, statistics=statistics)
    net, x = network(), image()
    answers = [AdaptiveInferer(8, n, 0.5, method=method, head="softmax")(x, net) for n in (1, 3, 8)]
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answers[0], answers[2], rtol=1e-4, atol=1e-4)


@EACH_LEARNER
@pytest.mark.parametrize("learn", ["window", "volume"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0])
def test_unusable_images_never_reach_the_weights(row, learn, value):
    net = network()
    x = torch.full((1, 1, 12, 12, 12), value)
    run = inferer(ROWS[row], learn=learn, reset="never")
    with pytest.warns(UserWarning, match="answered without adaptation"):
        answer = run(x, net)
    torch.testing.assert_close(answer, SlidingWindowInferer(8, 2, 0.5)(x, net), rtol=0, atol=0, equal_nan=True)
    assert run.cases[-1].reason and run.cases[-1].weight_distance == 0
    next_answer = run(image(), net)
    assert next_answer.isfinite().all() and run.cases[-1].reason is None


@EACH_LEARNER
def test_windows_with_nan_are_left_out(row):
    net, x = network(), image(size=16)
    x[..., 0, 0, 0] = float("nan")
    run = AdaptiveInferer(8, 1, 0, method=ROWS[row], head="softmax", learn="volume", reset="never", budget=None)
    with torch.no_grad():
        run(x, net)
    assert run.cases[-1].n_windows in (0, 7)


@EACH_LEARNER
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_source_stays_after_an_exception(row, error):
    net, x = network(), image()
    before = state(net)
    calls = []

    def fail_while_learning(*_):
        calls.append(1)
        if len(calls) == 6:  # after one batch of the first pass, and after four batches of two windows to choose from
            raise error("boom")

    handle = net[2].register_forward_hook(fail_while_learning)
    run = inferer(ROWS[row])
    if error is KeyboardInterrupt:
        with pytest.raises(error):
            run(x, net)
    else:
        with pytest.warns(UserWarning, match="adapting failed with RuntimeError: boom"):
            answer = run(x, net)
        handle.remove()
        assert torch.equal(answer, inferer(Source())(x, net)), "the answer is the unadapted one"
        assert run.cases[-1].reason == "adapting failed with RuntimeError: boom"
    handle.remove()
    assert same(before, state(net))
