"""`STAG`: what it costs, what it goes around, which networks end in a classifier, and what it refuses in words."""

from dataclasses import dataclass, replace

import pytest
import torch
from monai.networks.nets import UNETR, AttentionUnet, BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from monai_tta import STAG, VPTTA, Careful, Consistency, Everything, GraTa, Statistics, Tent
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.gradients import cosine
from monai_tta.core.tasks import ReconstructionTask
from tests.small import BLENDED, CON, FAST, ROWS, TENT, around, image, network, run, saved_stump

INNER = {
    "Tent": TENT,
    "Consistency": Consistency(optimizer=FAST, objective=CON),
    "GraTa": GraTa(optimizer=FAST, pseudo=CON, steps=2),
    "VPTTA": VPTTA(optimizer=FAST, warm_up=50.0),
}
READINGS = ["feature", "term", "row"]


def gradient(method, net, windows, head="softmax", **attributes):
    """A loss of windows and its gradient, with a fresh shadow that runs in the way the attributes say."""
    shadow = method.begin(net, head)
    if attributes.pop("recompute", False):
        shadow.recompute()
        assert shadow.recomputes
    for name, value in attributes.items():
        setattr(shadow, name, value)
    return shadow.gradient(method.loss, windows)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("reading", READINGS)
def test_it_costs_no_forward_and_no_backward_pass_more_than_the_inner_method(inner, reading, monkeypatch):
    forwards, backwards, grad = [], [], torch.autograd.grad
    net = around(lambda self, x: forwards.append((len(x), torch.is_grad_enabled())) or self.net(x))
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: backwards.append(1) or grad(*args, **kwargs))
    counts = []
    for method in (INNER[inner], STAG(inner=INNER[inner], reading=reading)):
        forwards.clear(), backwards.clear()
        _, case = run(net, method, head="softmax")
        assert case.reason is None and len(case.steps) == INNER[inner].steps
        counts.append(([*forwards], len(backwards)))
    assert counts[0] == counts[1] and counts[0][1] > 0


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("dims", [2, 3])
def test_it_changes_what_each_inner_method_learns_and_weight_0_does_not(inner, reading, dims):
    x = image(dims, size=8)
    plain, without, with_term = (
        gradient(method, network(dims=dims), x)[1]
        for method in (INNER[inner], *(STAG(inner=INNER[inner], reading=reading, weight=w) for w in (0.0, 100.0)))
    )
    assert all(map(torch.equal, plain, without))
    assert not all(torch.allclose(a, b, rtol=1e-2, atol=1e-9) for a, b in zip(plain, with_term, strict=True))


def test_it_looks_at_the_pass_that_takes_a_gradient():
    """An inner loss may ask the network of other windows without gradient, before and after."""

    class Distracted(Tent):
        def loss(self, shadow, windows):
            with torch.no_grad():
                shadow(windows + 5)
            value = super().loss(shadow, windows)
            with torch.no_grad():
                shadow(windows - 5)
            return value

    x = image(size=8)
    for reading in READINGS:
        (plain, grads), (distracted, same_grads) = (
            gradient(STAG(inner=kind(optimizer=FAST), reading=reading), network(), x) for kind in (Tent, Distracted)
        )
        assert plain == distracted and all(map(torch.equal, grads, same_grads))


ENDS_IN_A_CLASSIFIER = {
    "BasicUNet": lambda: BasicUNet(3, 1, 3, features=(4, 4, 4, 4, 4, 4)),
    "BasicUNet 2D": lambda: BasicUNet(2, 1, 3, features=(4, 4, 4, 4, 4, 4)),
    "DynUNet": lambda: DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 4, 4]),
    "DynUNet with supervised depths": lambda: DynUNet(
        3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4] * 4, deep_supervision=True, deep_supr_num=2, res_block=True
    ),
    "SegResNet": lambda: SegResNet(3, 8, in_channels=1, out_channels=3, blocks_down=(1, 1), blocks_up=(1,)),
    "UNETR": lambda: UNETR(1, 3, (32, 32, 32), feature_size=4, hidden_size=24, mlp_dim=24, num_heads=2),
    "AttentionUnet": lambda: AttentionUnet(3, 1, 3, (4, 4), (2,)),
}


@pytest.mark.parametrize("kind", ENDS_IN_A_CLASSIFIER)
@pytest.mark.parametrize("reading", READINGS)
def test_networks_of_monai_that_end_in_a_classifier(kind, reading):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ENDS_IN_A_CLASSIFIER[kind]().eval()
    x = image(2 if "2D" in kind else 3, size=32)
    losses = {}
    for weight in (0.0, 1.0):
        method = STAG(inner=Tent(optimizer=FAST), reading=reading, weight=weight)
        _, case = run(net, method, x, roi_size=32, head="softmax")
        assert case.reason is None and case.weight_distance > 0
        losses[weight] = case.steps[0].losses["loss"]
    assert 0 < losses[1.0] - losses[0.0] < 2


ENDS_OTHERWISE = {
    "a transposed convolution": lambda: UNet(3, 1, 3, (4, 8), (2,), norm="batch"),
    "a residual unit": lambda: UNet(3, 1, 3, (4, 8), (2,), norm="batch", num_res_units=1),
    "an answer that is scaled up": lambda: nn.Sequential(network(), nn.Upsample(scale_factor=1)),
    "an answer that is turned round": lambda: around(lambda self, x: self.net(x) * -1),
    "a larger convolution": lambda: nn.Sequential(nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4), nn.Conv3d(4, 3, 3, padding=1)),
}


@pytest.mark.parametrize("kind", ENDS_OTHERWISE)
def test_networks_that_end_otherwise_are_refused_in_words(kind):
    with pytest.warns(UserWarning, match="answered without adaptation"):
        _, case = run(ENDS_OTHERWISE[kind]().eval(), STAG(inner=TENT), head="softmax")
    assert "does not end in a convolution of size 1 whose output is the answer" in case.reason and not case.adapted


def two_classes():
    return nn.Sequential(*list(network())[:-1], nn.Conv3d(4, 2, 1)).eval()


@pytest.mark.parametrize(
    ("method", "net", "head", "words"),
    [
        (STAG(inner=TENT), network(head="sigmoid"), "sigmoid", "one row of weights, which allows reading='row' alone"),
        (STAG(inner=TENT, reading="term"), two_classes(), "softmax", "with two classes all entropy gradients by the feature lie"),
        (STAG(inner=Statistics()), network(), "softmax", "Statistics.* moves nothing"),
        (STAG(inner=Careful()), network(), "softmax", "Careful.* moves nothing"),
        (STAG(inner=GraTa(pseudo=ReconstructionTask())), network(), "softmax", "heads"),
    ],
)
def test_what_has_no_such_term_is_refused_in_words(method, net, head, words):
    with pytest.raises(CannotAdapt, match=words):
        gradient(method, net, image(size=8), head)


def test_an_inner_loss_that_never_asks_the_network_is_refused():
    class Idle(Tent):
        def loss(self, shadow, windows):
            return sum((tensor**2).sum() for tensor in shadow.moving)

    with pytest.raises(CannotAdapt, match="asks the network for no answer"):
        gradient(STAG(inner=Idle()), network(), image(size=8))


@pytest.mark.parametrize(
    "choice", [{"reading": "both"}, {"weight": -1.0}, {"weight": float("nan")}, {"voxels": 0}, {"voxels": 1.5}]
)
def test_choices_out_of_range_are_refused(choice):
    with pytest.raises(ValueError, match="found"):
        STAG(**choice)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("choices", [{}, {"equal_classes": False}, {"voxels": 50}])
def test_recomputing_and_single_windows_change_rounding_only(inner, choices):
    method, x = STAG(inner=INNER[inner], weight=1.0, **choices), image(size=8, n=3)
    value, found = gradient(method, network(), x)
    for way in ({"voxels_at_once": 0}, {"recompute": True}, {"recompute": True, "voxels_at_once": 2 * 8**3}):
        other, other_gradient = gradient(method, network(), x, **way)
        assert other == pytest.approx(value, rel=1e-5) and cosine(found, other_gradient) > 1 - 1e-5


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("dims", [2, 3])
def test_fast_arithmetic_is_near(reading, dims):
    method, x = STAG(inner=TENT, weight=1.0, reading=reading), image(dims, size=8)
    (exact, found), (fast, near) = (gradient(method, network(dims=dims), x, precision=p) for p in ("exact", "fast"))
    assert fast == pytest.approx(exact, rel=2e-2) and cosine(found, near) > 1 - 2e-2


@pytest.mark.parametrize("reading", READINGS)
def test_anchors_stay_the_sources_when_the_classifier_moves(reading):
    method = STAG(inner=Tent(select=Everything(), optimizer=FAST, steps=3), reading=reading)
    net = network()
    shadow = method.begin(net, "softmax")
    method.adapt(shadow, image(size=8), method.loss)
    again = method.begin(net, "softmax")
    method.loss(again, image(size=8))
    assert not torch.equal(shadow.module[6].weight, net[6].weight)
    assert torch.equal(shadow.kept[method].anchors, again.kept[method].anchors)


def test_drawn_voxels_follow_the_seed_and_stay_for_all_steps():
    few = STAG(inner=replace(TENT, steps=2), weight=1.0, voxels=20)
    answers = [run(network(), few, head="softmax", seed=seed)[0] for seed in (1, 1, 2)]
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
    shadow = few.begin(network(), "softmax")
    few.adapt(shadow, image(size=8, n=2), few.loss)
    assert shadow._drawn == 1


def test_two_of_them_keep_apart():
    inside = STAG(inner=TENT, weight=1.0, reading="row")
    both = STAG(inner=inside, weight=1.0, reading="feature")
    x = image(size=8)
    tent, row, feature, two = (
        gradient(m, network(), x)[0] for m in (TENT, inside, STAG(inner=TENT, weight=1.0, reading="feature"), both)
    )
    assert two - tent == pytest.approx(row - tent + feature - tent, rel=1e-5)


def test_it_can_be_a_candidate_of_careful():
    """A gain predictor knows it by what its inner method says of itself."""
    method = STAG(inner=TENT)
    assert method.candidate_features == TENT.candidate_features
    careful = Careful(
        predictor=saved_stump("steps", low=-5.0, high=0.1, feature="step size", at=0.01), candidates=(BLENDED[0], method)
    )
    _, case = run(network(), careful, head="softmax")
    assert case.reason is None and any("STAG" in name for name in case.steps[0].notes) and case.weight_distance > 0


def test_it_is_episodic_or_continual_as_its_inner_method():
    assert not STAG().is_continual and STAG(inner=ROWS["VPTTA"]).is_continual


@dataclass(frozen=True, kw_only=True)
class Doubled(STAG):
    """A plug-in of a plug-in."""


def test_subclasses_work():
    assert run(network(), Doubled(inner=TENT), head="softmax")[1].reason is None
