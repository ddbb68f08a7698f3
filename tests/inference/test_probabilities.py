"""Networks that answer probabilities: they adapt as the network of logits inside them does, and answer probabilities."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_tta import AdaptiveInferer, Careful, Consistency, GraTa, Source, Statistics, Tent, ViewAverage, VolumeChange
from monai_tta.core.objectives import probabilities
from tests.small import BLENDED, FAST, TENT, around, image, network, run, saved_stump

METHODS = [
    Source(),
    Statistics(statistics="volume"),
    Tent(optimizer=FAST),
    Consistency(optimizer=FAST),
    GraTa(optimizer=FAST),
    ViewAverage(),
    Careful(predictor=saved_stump("hopeful"), candidates=BLENDED),
]


def ending(dims, head, module):
    """The small network with one more layer, or as a function."""
    inner = network(dims=dims, head=head)
    return nn.Sequential(inner, module).eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_network_that_ends_in_probabilities_adapts_as_its_logits_do(dims, head, method):
    x = image(dims, size=8)  # one window, because means of probabilities are not those of logits where windows overlap
    logits, case = run(network(dims=dims, head=head), method, x, head=head)
    own, other = run(ending(dims, head, nn.Softmax(1) if head == "softmax" else nn.Sigmoid()), method, x, head=head)
    torch.testing.assert_close(own, probabilities(logits, head), rtol=1e-3, atol=1e-4)
    assert other.reason == case.reason and (other.answers == "probabilities") and case.answers in ("logits", None)
    torch.testing.assert_close(
        torch.tensor([list(s.losses.values()) for s in other.steps if s.losses]),
        torch.tensor([list(s.losses.values()) for s in case.steps if s.losses]),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("work", "kind", "head"),
    [
        (lambda self, x: self.net(x), "logits", "softmax"),
        (lambda self, x: torch.sigmoid(self.net(x)), "probabilities", "sigmoid"),
        (lambda self, x: self.net(x).softmax(1), "probabilities", "softmax"),
        (lambda self, x: self.net(x).softmax(1)[:, 1:], "probabilities", "sigmoid"),  # the background left out
        (lambda self, x: F.interpolate(F.softmax(self.net(x), 1), scale_factor=1.0), "probabilities", "softmax"),
        (lambda self, x: (self.net(x).sigmoid() + self.net(x.flip(2)).flip(2).sigmoid()) / 2, "probabilities", "sigmoid"),
        (lambda self, x: 1 - self.net(x).sigmoid(), "probabilities", "sigmoid"),
        (lambda self, x: F.hardsigmoid(self.net(x)), "probabilities", "sigmoid"),
        (lambda self, x: self.net(x).log_softmax(1).exp(), "probabilities", "softmax"),
        (lambda self, x: self.net(x).log_softmax(1), "logits", "softmax"),
        (lambda self, x: self.net(x) * self.net(x).sigmoid(), "logits", "softmax"),  # a gate is no end
        (lambda self, x: (self.net(x) / 100).square() * self.net(x).sigmoid(), "logits", "softmax"),  # nor one in [0, 1]
        (lambda self, x: 3 * self.net(x).sigmoid() - 1, "logits", "softmax"),  # no longer in [0, 1]
        (lambda self, x: 0.5 + 1e-3 * self.net(x).clamp(-9, 9), "logits", "softmax"),  # in [0, 1] by chance
        (lambda self, x: {"aux": self.net(x), "out": self.net(x).softmax(1)}, "probabilities", "softmax"),
    ],
)
def test_what_an_answer_holds_is_on_record(work, kind, head):
    answer, case = run(around(work))
    assert case.reason is None and (case.answers, case.head) == (kind, head)


def test_logits_that_lie_in_the_unit_interval_stay_logits():
    for head in ("softmax", "sigmoid"):
        net = network(head=head)
        shifted = around(lambda self, x: 0.5 + 0.01 * self.net(x).clamp(-9, 9))
        _, case = run(shifted, TENT, head=head)
        assert case.answers == "logits" and case.reason is None
        _, told = run(shifted, TENT, head=head, answers="probabilities")
        assert told.answers == "probabilities" and told.reason is None
    assert net is not None


def test_a_wrong_word_about_the_answers_is_refused_with_their_range():
    with pytest.warns(UserWarning, match="answers='probabilities', but the network's answers go from -"):
        answer, case = run(network(), TENT, answers="probabilities")
    assert torch.equal(answer, run(network(), Source())[0])


def test_who_says_logits_gets_them():
    _, case = run(ending(3, "sigmoid", nn.Sigmoid()), TENT, head="sigmoid", answers="logits")
    assert case.answers == "logits" and case.reason is None


def test_logarithms_of_a_sigmoid_are_no_logits():
    with pytest.warns(UserWarning, match="logarithms of a sigmoid"):
        _, case = run(ending(3, "sigmoid", nn.LogSigmoid()), TENT, head="sigmoid")
    assert case.reason is not None


@pytest.mark.parametrize("x", [image() * float("nan"), torch.zeros(1, 1, 12, 12, 12)])
def test_an_answer_without_a_sign_of_its_form_is_given_as_it_is(x):
    with pytest.warns(UserWarning, match="no window can be adapted on"):
        answer, case = run(ending(3, "softmax", nn.Softmax(1)), TENT, x)
    assert answer.shape == (1, 3, 12, 12, 12) and case.reason is not None


def test_guards_see_probabilities_as_such():
    """The logit of 0.5 is 0, so a guard of volumes counts what the caller's threshold of 0.5 will."""
    net, x, seen = ending(3, "sigmoid", nn.Sigmoid()), image(), []

    def guard(unadapted, adapted, head):
        seen.append((unadapted, adapted))

    answer, case = run(net, TENT, x, head="sigmoid", guard=guard)
    (unadapted, adapted) = seen[0]
    assert torch.equal(adapted > 0, answer > 0.5) and 0 < case.changed_fraction < 1
    with torch.no_grad():
        plain = AdaptiveInferer(8, 2, 0.5, method=Source())(x, net)
    assert torch.equal(unadapted > 0, plain > 0.5)
    _, again = run(net, TENT, x, head="sigmoid", guard=VolumeChange(1e-6))
    assert "voxels" in again.reason


def test_saturated_probabilities_give_finite_steps():
    sure = around(lambda self, x: (self.net(x) * 200).softmax(1))
    answer, case = run(sure, GraTa(optimizer=FAST))
    assert case.reason is None and answer.isfinite().all() and case.weight_distance < float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_probabilities_of_other_dtypes_are_noticed(dtype):
    net = ending(3, "softmax", nn.Softmax(1)).to(dtype)
    answer, case = run(net, TENT, image().to(dtype))
    assert case.answers == "probabilities" and answer.dtype == dtype
