"""Every exported method through every law: 2D/3D, sigmoid/softmax, four kinds of normalisation."""

import copy
import pickle

import pytest
import torch

import monai_tta
from monai_tta import AdaptiveInferer, Source, Statistics, methods
from monai_tta.core.method import Wrapper
from monai_tta.core.optimizers import SGD
from monai_tta.core.selection import Everything, Matching, NormAffine
from tests.small import LEARNERS, NORMS, ROWS, image, inferer, network, same, state

TABLE = pytest.mark.parametrize("row", ROWS)
LEARNING = pytest.mark.parametrize("row", LEARNERS)


def test_every_exported_method_has_a_row_and_a_citation():
    assert set(methods.__all__) == set(ROWS)
    assert set(methods.__all__) < set(monai_tta.__all__)
    for name in methods.__all__:
        assert any(c.isdigit() for c in getattr(methods, name).__doc__) or name == "Source"


@TABLE
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_source_untouched_and_answer_like_the_plain_one(row, kind, dims, head):
    net, x = network(kind, dims, head), image(dims)
    plain = AdaptiveInferer.__mro__[1](8, 2, 0.5)(x, net)
    before, rng, given = state(net), torch.get_rng_state(), x.clone()
    with torch.no_grad():
        run = inferer(ROWS[row], head, precision="exact")
        answer = run(x, net)
    assert same(before, state(net)) and torch.equal(rng, torch.get_rng_state()) and torch.equal(x, given)
    assert answer.shape == plain.shape and answer.dtype == plain.dtype and not answer.requires_grad
    assert run.cases[-1].reason is None
    assert (run.cases[-1].weight_distance > 0) == (row in LEARNERS)
    if row == "Source" or (row == "Statistics" and kind != "batch"):
        torch.testing.assert_close(answer, plain, rtol=1e-4, atol=1e-4)
    else:
        assert not torch.allclose(answer, plain, atol=1e-4)


@LEARNING
def test_rate_zero_is_the_statistics_alone(row):
    import dataclasses

    still = dataclasses.replace(ROWS[row], optimizer=SGD(lr=0.0, momentum=0))
    net, x = network(), image()
    run = inferer(still)
    torch.testing.assert_close(run(x, net), inferer(Statistics(blend=1.0))(x, net))
    assert run.cases[-1].weight_distance == 0


@TABLE
def test_episodic_forgets_and_continual_remembers(row):
    net, a, b = network(), image(seed=1), image(seed=2)
    fresh = inferer(ROWS[row])(b, net)
    run = inferer(ROWS[row])
    run(a, net)
    assert torch.equal(run(b, net), fresh)
    stream = inferer(ROWS[row], reset="never")
    stream(a, net)
    assert torch.equal(stream(b, net), fresh) == (row not in LEARNERS)


@TABLE
def test_same_under_every_switch(row):
    net, x = network(), image()
    reference = inferer(ROWS[row])(x, net)
    for switch in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with switch():
            answer = inferer(ROWS[row])(x, net)
        assert torch.equal(answer, reference)
        assert torch.is_grad_enabled()


@LEARNING
@pytest.mark.parametrize("learn", ["volume", "window"])
def test_moved_convolutions_are_seen_under_autocast(row, learn):
    import dataclasses

    net, x = network(), image()
    method = dataclasses.replace(ROWS[row], select=Matching(r"^6\.|weight"))
    exact = inferer(method, learn=learn)(x, net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = inferer(method, learn=learn)(x, net)
        plain = inferer(Statistics(blend=1.0))(x, net)
    assert (half - exact).abs().mean() < 0.2 * (half - plain).abs().mean()


@TABLE
def test_a_method_is_a_value(row):
    method = ROWS[row]
    assert pickle.loads(pickle.dumps(method)) == method == copy.deepcopy(method)
    assert hash(method) == hash(copy.deepcopy(method))
    public = {name: getattr(monai_tta, name) for name in monai_tta.__all__}
    assert eval(repr(method), public) == method


@TABLE
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_wrapper_reaches_inside(row, weight):
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Pull(Wrapper):
        weight: float

        def loss(self, shadow, windows):
            return self.inner.loss(shadow, windows) + self.weight * (shadow(windows) ** 2).mean()

    net, x = network(), image()
    answer, inner = inferer(Pull(inner=ROWS[row], weight=weight))(x, net), inferer(ROWS[row])(x, net)
    assert torch.equal(answer, inner) == (weight == 0 or row not in LEARNERS)


@TABLE
def test_new_source_weights_are_noticed(row):
    net, x = network(), image()
    run = inferer(ROWS[row], reset="never")
    run(x, net)
    with torch.no_grad():
        net[6].weight.mul_(-2)
    renewed = inferer(ROWS[row], reset="never", seed=1)
    torch.testing.assert_close(run(x, net), renewed(x, net))


@LEARNING
@pytest.mark.parametrize("select", [NormAffine(), Matching(r"^3\."), Everything()])
def test_only_the_selected_moves(row, select):
    import dataclasses

    from monai_tta.inference.inferer import _streams

    net, x = network(), image()
    run = inferer(dataclasses.replace(ROWS[row], select=select), reset="never")
    run(x, net)
    shadow = _streams[run].shadows[net][1]
    moved = {
        n
        for (n, a), (_, b) in zip(shadow.module.named_parameters(), net.named_parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert moved and moved <= set(shadow.names) == set(select(net))
    still = [n for n, _ in net.named_parameters() if n not in shadow.names]
    for n in still:
        assert shadow.module.get_parameter(n).data_ptr() == net.get_parameter(n).data_ptr()


@TABLE
@pytest.mark.parametrize("statistics", ["window", "volume"])
def test_window_batches_change_nothing_but_rounding(row, statistics):
    import dataclasses

    method = ROWS[row]
    if hasattr(method, "statistics"):
        method = dataclasses.replace(method, statistics=statistics)
    net, x = network(), image()
    answers = [AdaptiveInferer(8, n, 0.5, method=method, head="softmax")(x, net) for n in (1, 3, 8)]
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answers[0], answers[2], rtol=1e-4, atol=1e-4)


@LEARNING
@pytest.mark.parametrize("learn", ["window", "volume"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_poison_never_reaches_the_weights(row, learn, bad):
    net = network()
    x = image() if bad is not None else torch.full((1, 1, 12, 12, 12), 3.0)
    if bad is not None:
        x[...] = bad
    run = inferer(ROWS[row], learn=learn, reset="never")
    with pytest.warns(UserWarning, match="answered without adaptation"):
        answer = run(x, net)
    assert torch.equal(answer, AdaptiveInferer.__mro__[1](8, 2, 0.5)(x, net)) or bad is not None
    assert run.cases[-1].reason and run.cases[-1].weight_distance == 0
    good = run(image(), net)
    assert good.isfinite().all() and run.cases[-1].reason is None


@LEARNING
def test_one_bad_corner_does_not_poison_the_rest(row):
    net, x = network(), image(size=16)
    x[..., 0, 0, 0] = float("nan")
    run = AdaptiveInferer(8, 1, 0, method=ROWS[row], head="softmax", learn="volume", reset="never", budget=None)
    with torch.no_grad():
        run(x, net)
    assert run.cases[-1].n_windows in (0, 7)


@LEARNING
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_source_untouched_after_an_exception(row, error):
    net, x = network(), image()
    before, calls = state(net), []

    def bomb(*_):
        calls.append(1)
        if len(calls) == 6:  # past the survey of one batch and the looks at eight windows, two at once, within the learning
            raise error("boom")

    handle = net[2].register_forward_hook(bomb)
    run = inferer(ROWS[row])
    if error is KeyboardInterrupt:
        with pytest.raises(error):
            run(x, net)
    else:
        with pytest.warns(UserWarning, match="adapting failed with RuntimeError: boom"):
            answer = run(x, net)
        handle.remove()
        assert torch.equal(answer, inferer(Source())(x, net)), "the plain answer is at hand"
        assert run.cases[-1].reason == "adapting failed with RuntimeError: boom"
    handle.remove()
    assert same(before, state(net))
