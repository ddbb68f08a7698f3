"""Methods against their papers in plain lines (tests/reference), in float64."""

import copy

import pytest
import torch
from torch import nn

from monai_tta import AdaptiveInferer, Consistency, GraTa, Statistics, Tent, ViewAverage
from monai_tta.core.optimizers import Adam
from monai_tta.core.tasks import ConsistencyTask
from tests.reference import consistency, grata, statistics, tent

RATE = 0.01


def restyled(windows, seeds=()):
    """A fixed restyling, so that both sides draw the same."""
    return (windows * 1.3 - 0.2).tanh()


TASK = ConsistencyTask(restyling=restyled)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.Tanh(),
            nn.Conv2d(5, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Conv2d(6, 2, 1),
        ).double()
        for layer in (net[1], net[4]):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return net.eval()


def with_statistics(net):
    """The same network, normalising by what it sees."""
    own = copy.deepcopy(net)
    for layer in own:
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
            layer.momentum = 0.0
    return own, [t for layer in own if isinstance(layer, nn.BatchNorm2d) for t in (layer.weight, layer.bias)]


def window():
    return torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def adapted(method):
    run = AdaptiveInferer(12, method=method, head="sigmoid")
    return run(window(), network()), run.cases[-1]


def test_grata():
    own, affine = with_statistics(network())
    x = window()
    cos = grata.grata(own, affine, x, restyled(x), RATE)
    answer, case = adapted(GraTa(pseudo=TASK, optimizer=Adam(lr=RATE)))
    torch.testing.assert_close(answer, own(x).detach(), rtol=1e-7, atol=1e-7)
    assert case.steps[0].cosine == pytest.approx(cos, abs=1e-7)
    assert case.steps[0].lr == pytest.approx(RATE * (cos + 1) ** 2 / 4)


def test_tent():
    own, affine = with_statistics(network())
    tent.tent(own, affine, window(), RATE)
    torch.testing.assert_close(adapted(Tent(optimizer=Adam(lr=RATE)))[0], own(window()).detach(), rtol=1e-7, atol=1e-7)


def test_consistency():
    own, affine = with_statistics(network())
    consistency.consistency(own, affine, window(), restyled(window()), RATE)
    answer, case = adapted(Consistency(objective=TASK, optimizer=Adam(lr=RATE)))
    torch.testing.assert_close(answer, own(window()).detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_statistics(share):
    answer, _ = adapted(Statistics(blend=share))
    torch.testing.assert_close(answer, statistics.blend(network(), window(), share).detach(), rtol=1e-5, atol=1e-6)


def test_view_average():
    own, x = network(), window()
    poses = [(x, lambda y: y)]
    poses += [(x.flip(a), lambda y, a=a: y.flip(a)) for a in (2, 3)]
    poses += [(x.rot90(k, (2, 3)), lambda y, k=k: y.rot90(-k, (2, 3))) for k in (1, 2, 3)]
    mean = sum(undo(own(v).sigmoid()) for v, undo in poses) / 6
    torch.testing.assert_close(adapted(ViewAverage())[0].sigmoid(), mean.detach(), rtol=1e-6, atol=1e-7)
