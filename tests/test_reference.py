"""Methods against their papers in plain code (tests/reference), in float64."""

import copy

import pytest
import torch
from torch import nn

from monai_tta import STAG, VPTTA, AdaptiveInferer, Consistency, GraTa, Prompt, Statistics, Tent, ViewAverage
from monai_tta.core.optimizers import SGD, Adam
from monai_tta.core.tasks import ConsistencyTask
from tests.reference.consistency import consistency_step
from tests.reference.grata import grata_step
from tests.reference.stag import stag_step
from tests.reference.statistics import blended_answer
from tests.reference.tent import tent_step
from tests.reference.vptta import bank_start, forward, prompted, vptta_step

LR = 0.01


def restyled(windows, seeds=()):
    """A restyling without random draws, so that both sides get the same."""
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


def with_window_statistics(net):
    """A copy of the network that normalises by the batch it sees, and its scales and shifts."""
    copied = copy.deepcopy(net)
    norms = [layer for layer in copied if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.train()
        layer.momentum = 0.0
    return copied, [tensor for layer in norms for tensor in (layer.weight, layer.bias)]


def window():
    return torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def adapted(method):
    """The answer of a method, and the record."""
    run = AdaptiveInferer(12, method=method, head="sigmoid")
    return run(window(), network()), run.cases[-1]


def test_grata():
    net, affine = with_window_statistics(network())
    x = window()
    cosine = grata_step(net, affine, x, restyled(x), LR)
    answer, case = adapted(GraTa(pseudo=TASK, optimizer=Adam(lr=LR)))
    torch.testing.assert_close(answer, net(x).detach(), rtol=1e-7, atol=1e-7)
    assert case.steps[0].cosine == pytest.approx(cosine, abs=1e-7)
    assert case.steps[0].lr == pytest.approx(LR * (cosine + 1) ** 2 / 4)


def test_tent():
    net, affine = with_window_statistics(network())
    tent_step(net, affine, window(), LR)
    answer, _ = adapted(Tent(optimizer=Adam(lr=LR)))
    torch.testing.assert_close(answer, net(window()).detach(), rtol=1e-7, atol=1e-7)


def test_consistency():
    net, affine = with_window_statistics(network())
    consistency_step(net, affine, window(), restyled(window()), LR)
    answer, _ = adapted(Consistency(objective=TASK, optimizer=Adam(lr=LR)))
    torch.testing.assert_close(answer, net(window()).detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_statistics(blend):
    answer, _ = adapted(Statistics(blend=blend))
    torch.testing.assert_close(answer, blended_answer(network(), window(), blend).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 12), (13, 18)])
def test_vptta(shape):
    net = network()
    x = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 1
    size = [2 * (side // 6) + 1 for side in shape]
    logits, loss, prompt = vptta_step(net, x, size, LR)
    run = AdaptiveInferer(
        shape, method=VPTTA(select=Prompt(wavelength=6.0), optimizer=Adam(lr=LR, betas=(0.9, 0.99))), head="sigmoid"
    )
    torch.testing.assert_close(run(x, net), logits, rtol=1e-7, atol=1e-7)
    assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-9)
    assert run.cases[-1].weight_distance == pytest.approx(float((prompt - 1).norm()), rel=1e-9)


def test_vptta_starts_from_the_prompts_of_similar_images():
    net = network()
    images = torch.randn(5, 1, 2, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 1
    method = VPTTA(select=Prompt(frequencies=1), neighbors=3, optimizer=SGD(lr=0.5, momentum=0.0))
    run = AdaptiveInferer(12, method=method, head="sigmoid", reset="never")
    bank = []
    for number, x in enumerate(images, 1):
        start, key = bank_start(bank, x, (3, 3), 3)
        prompt = start.clone().requires_grad_()
        _, loss = forward(net, prompted(x, prompt), 1 / (number**0.5 / 5 + 1))
        prompt = (prompt - 0.5 * torch.autograd.grad(loss, prompt)[0]).detach()
        bank.append((key, prompt))
        torch.testing.assert_close(run(x, net), forward(net, prompted(x, prompt), 1 / (number**0.5 / 5 + 1))[0].detach())
    assert not torch.equal(start, torch.ones_like(start))


@pytest.mark.parametrize("equal_classes", [True, False])
@pytest.mark.parametrize("reading", ["feature", "term", "row"])
def test_stag(reading, equal_classes):
    net = network()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net[-1] = nn.Conv2d(6, 4, 1).double().requires_grad_(False)
    run = AdaptiveInferer(
        12,
        method=STAG(inner=Tent(optimizer=Adam(lr=LR)), weight=0.7, reading=reading, equal_classes=equal_classes),
        head="softmax",
    )
    answer = run(window(), net)
    adapted_net, affine = with_window_statistics(net)
    loss = stag_step(adapted_net, affine, window(), LR, 0.7, reading, equal_classes)
    torch.testing.assert_close(answer, adapted_net(window()).detach(), rtol=1e-7, atol=1e-7)
    assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-9)


def test_view_average():
    net = network()
    x = window()
    views = [(x, lambda y: y)]
    views += [(x.flip(axis), lambda y, axis=axis: y.flip(axis)) for axis in (2, 3)]
    views += [(x.rot90(turns, (2, 3)), lambda y, turns=turns: y.rot90(-turns, (2, 3))) for turns in (1, 2, 3)]
    mean = sum(undo(net(view).sigmoid()) for view, undo in views) / 6
    answer, _ = adapted(ViewAverage())
    torch.testing.assert_close(answer.sigmoid(), mean.detach(), rtol=1e-6, atol=1e-7)
