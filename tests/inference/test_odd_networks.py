"""Unusual networks: each adapts like any other, or gets the unadapted answer for a stated reason."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm
from torch.utils.checkpoint import checkpoint

from monai_tta import Consistency, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.selection import Everything
from monai_tta.core.shadow import Shadow
from tests.small import FAST, ROWS, TENT, around, fitted, image, network, run, same, state


class Activated(nn.BatchNorm3d):
    """A BatchNorm followed by an activation, as in timm."""

    def forward(self, x):
        return torch.relu(super().forward(x))


class Conditional(nn.BatchNorm3d):
    def forward(self, x, scale):
        return super().forward(x) * scale


def test_a_norm_layer_with_a_forward_of_its_own_keeps_it():
    net, x = network(Activated), image()
    answer, case = run(net, Source(), x)
    torch.testing.assert_close(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))
    own = Shadow(net, "softmax", None, "window").module[1]
    features = torch.randn(2, 4, 6, 6, 6, generator=torch.Generator().manual_seed(3)) + 2
    with torch.no_grad():
        expected = torch.cat([torch.relu(nn.functional.batch_norm(f[None], None, None, training=True)) for f in features])
    torch.testing.assert_close(own(features), expected)


def test_a_norm_layer_with_an_additional_argument_adapts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv3d(1, 3, 1), Conditional(3)

        def forward(self, x):
            return self.norm(self.conv(x), 2.0)

    _, case = run(Net().eval())
    assert case.reason is None and case.weight_distance > 0


def test_a_norm_layer_used_twice_is_one_layer():
    net = network()
    net[4] = net[1]
    shadow = Shadow(net, "softmax", Everything())
    assert isinstance(shadow.module[1], AdaptiveNorm) and shadow.module[4] is shadow.module[1]


def test_tied_weights_stay_tied():
    net = network()
    net[4].weight = net[1].weight
    shadow = Shadow(net, "softmax", Everything())
    assert shadow.module[4].weight is shadow.module[1].weight and shadow.module[1].weight.requires_grad
    assert net[1].weight is not shadow.module[1].weight


EDITS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": lambda m: parametrizations.spectral_norm(m) if m.weight.ndim > 1 else m,
    "spectral_norm by hook": lambda m: spectral_norm(m) if m.weight.ndim > 1 else m,
    "pruning": lambda m: prune.l1_unstructured(m, "weight", 0.3),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("way", EDITS)
def test_reparametrised_layers_adapt(way, place):
    net, x = network(), image()
    EDITS[way](net[place])
    unadapted = SlidingWindowInferer(8, 2, 0.5)(x, net).detach()
    torch.testing.assert_close(run(net, Source(), x)[0], unadapted)
    answer, case = run(net, TENT, x)
    assert case.reason is None and case.weight_distance > 0 and not torch.equal(answer, unadapted)
    torch.testing.assert_close(SlidingWindowInferer(8, 2, 0.5)(x, net).detach(), unadapted)


def test_hooks_and_attributes_of_norm_layers_are_kept():
    seen = {}

    class Tap(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.net[4].register_forward_hook(self.keep)

        def keep(self, module, given, answer):
            seen[id(self)] = answer

        def forward(self, x):
            answer = self.net(x)
            return answer + seen.pop(id(self)).mean() * self.net[1].momentum

    _, case = run(Tap().eval())
    assert case.reason is None and case.weight_distance > 0


def no_gradient():
    net = network()
    own = net.forward
    net.forward = lambda x: own(x)
    return net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", [no_gradient(), around(lambda self, x: checkpoint(self.net, x, use_reentrant=True))])
@pytest.mark.parametrize("method", [TENT, GraTa(optimizer=FAST), Consistency(optimizer=FAST)])
def test_the_record_says_where_no_gradient_arrives(net, method):
    answer, case = run(net, method)
    assert "no gradient reaches what may move" in case.reason
    assert torch.equal(answer, run(net, Source())[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("row", ROWS)
def test_networks_of_other_dtypes_keep_them_and_adapt(dtype, row):
    if row == "Rehearsal" and dtype == torch.float64:
        pytest.skip("features are kept for narrower networks")
    x, net = image().to(dtype), network().to(dtype)
    before = state(net)
    answer, case = run(net, fitted(row, net), x)
    assert answer.dtype == dtype and answer.isfinite().all() and same(before, state(net))
    assert case.reason == ("the method is Source: nothing adapts" if row == "Source" else None)
    wide, _ = run(network(), fitted(row, network()), image())
    assert (answer.float() - wide).abs().mean() < 0.02 * wide.abs().mean(), "as the network in float32, but for rounded weights"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", [GraTa(), Tent(), Consistency()], ids=["GraTa", "Tent", "Consistency"])
def test_a_small_step_is_not_rounded_away_in_half_width(dtype, method):
    """1 + 1e-4 is 1 in both half-width types, and Adam's epsilon of 1e-8 is 0 in float16."""
    _, case = run(network().to(dtype), method, image().to(dtype))
    _, wide = run(network().to(dtype).float(), method, image().to(dtype).float())
    assert case.reason is None and case.weight_distance == pytest.approx(wide.weight_distance, rel=1e-3)


@pytest.mark.parametrize("kind", [tuple, dict])
def test_each_answer_of_a_network_in_half_precision_stays_in_that(kind):
    parts = lambda y: (y, y[:, :1]) if kind is tuple else {"out": y, "aux": y[:, :1]}  # noqa: E731
    net = around(lambda self, x: parts(self.net(x)))
    answer, case = run(net.half(), TENT, image().half())
    parts = answer.values() if kind is dict else answer
    assert case.reason is None and {part.dtype for part in parts} == {torch.float16}


def test_norm_layers_that_were_kept_in_float32_adapt_with_the_rest():
    """F.batch_norm takes half-width features with float32 weights."""
    net = around(lambda self, x: self.net[6](self.net[1](self.net[0](x))))
    net.half().net[1].float()
    answer, case = run(net, TENT, image().half())
    assert answer.dtype == torch.float16 and case.reason is None and case.weight_distance > 0


def test_a_network_that_halves_its_features_itself_says_so():
    net = around(lambda self, x: self.net[6](torch.relu(self.net[1](self.net[0](x)).half()))).half()
    _, case = run(net, TENT, image().half())
    assert "is in half precision, adapts in float32, and makes half-width numbers of its features by itself" in case.reason


class Counting(nn.Module):
    """A network that writes to what it holds, also in eval mode."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = network(), 0
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("first", self.seen[:1])
        self.plain = torch.zeros(1)
        self.mean = torch.zeros(1)

    def forward(self, x):
        self.calls += 1
        self.seen += 1
        self.plain += 1
        self.mean.lerp_(x.mean().detach().view(1), 0.1)
        assert torch.equal(self.first, self.seen[:1]), "views of one storage stay that"
        return self.net(x)


@pytest.mark.parametrize("learn", ["volume", "window"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("method", [TENT, GraTa(optimizer=FAST), Statistics(), ViewAverage()], ids=["Tent", "GraTa", "S", "V"])
def test_what_a_forward_pass_writes_in_the_shadow_never_reaches_the_source(method, training, learn):
    net = Counting().train(training)
    _, case = run(net, method, learn=learn)
    assert case.reason is None and net.seen.tolist() == [net.calls] * 2 and float(net.plain) == net.calls
    assert training is False or net.calls == 0, "in training mode a copy answers"


def test_confident_half_precision_answers_stay_finite():
    sure = around(lambda self, x: self.net(x)[:, :1].abs() * 100).to(torch.bfloat16)
    answer, case = run(sure, ViewAverage(), image().bfloat16())
    assert case.reason is None and answer.isfinite().all()
