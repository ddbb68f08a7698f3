"""Properties of the losses, for any logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monai_tta.core.objectives import cross_entropy, full_entropy, half_entropy, labels, probabilities

HEADS = pytest.mark.parametrize("head", ["softmax", "sigmoid"])


@st.composite
def logits(draw, channels=None):
    shape = (draw(st.integers(1, 2)), channels or draw(st.integers(2, 4)), *draw(st.sampled_from([(3, 4), (2, 3, 2)])))
    return torch.from_numpy(draw(arrays("float64", shape, elements=st.floats(-50, 50))))


@HEADS
@settings(max_examples=60, deadline=None)
@given(z=logits())
def test_entropy_is_between_zero_and_that_of_equal_probabilities(head, z):
    most = math.log(z.shape[1]) if head == "softmax" else z.shape[1] * math.log(2)
    assert -1e-9 <= full_entropy(z, head) <= most + 1e-9
    assert full_entropy(z * 0, head) == pytest.approx(most)


@settings(max_examples=60, deadline=None)
@given(z=logits(channels=2))
def test_softmax_over_two_classes_is_the_sigmoid_of_their_difference(z):
    difference = z[:, 1:] - z[:, :1]
    torch.testing.assert_close(full_entropy(z, "softmax"), full_entropy(difference, "sigmoid"))
    torch.testing.assert_close(probabilities(z, "softmax")[:, 1:], probabilities(difference, "sigmoid"))
    q = probabilities(z.flip(0), "softmax")
    torch.testing.assert_close(cross_entropy(z, q, "softmax"), cross_entropy(difference, q[:, 1:], "sigmoid"))
    clear = difference.abs() > 1e-9
    assert torch.equal((labels(z, "softmax") == 1)[clear], labels(difference, "sigmoid")[clear])


@HEADS
@settings(max_examples=60, deadline=None)
@given(z=logits())
def test_cross_entropy_is_least_where_the_answer_is_the_target(head, z):
    own = cross_entropy(z, probabilities(z, head), head)
    other = cross_entropy(z + torch.linspace(-2, 2, z.numel()).view(z.shape), probabilities(z, head), head)
    assert own <= other + 1e-9
    channels = 1 if head == "softmax" else z.shape[1]
    torch.testing.assert_close(own * channels, full_entropy(z, head))


@HEADS
@settings(max_examples=40, deadline=None)
@given(z=logits())
def test_losses_are_means_over_windows_with_finite_gradients(head, z):
    z = (z * 20).requires_grad_()
    for loss in (full_entropy, half_entropy):
        torch.testing.assert_close(loss(z, head), torch.stack([loss(one, head) for one in z.split(1)]).mean())
        assert torch.autograd.grad(loss(z, head), z)[0].isfinite().all()


@settings(max_examples=40, deadline=None)
@given(z=logits())
def test_half_entropy_is_the_formula_of_gratas_code(z):
    p = 1 / (1 + torch.exp(-z))
    expected = -(p * torch.log(p + 1e-6)).sum() / (z.shape[0] * z[0, 0].numel())
    torch.testing.assert_close(half_entropy(z, "sigmoid"), expected)


def test_the_gradient_of_half_entropy_changes_sign_at_one_over_e():
    for p, sign in ((0.2, 1), (0.6, -1)):
        z = torch.logit(torch.full((1, 1, 2, 2), p)).requires_grad_()
        assert (torch.autograd.grad(half_entropy(z, "sigmoid"), z)[0] * sign > 0).all()


def test_errors_say_what_was_found():
    with pytest.raises(ValueError, match="'softmax' or 'sigmoid', found 'tanh'"):
        probabilities(torch.zeros(1, 2, 2, 2), "tanh")
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 3\) and target \(1, 3, 3, 3\)"):
        cross_entropy(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3), "softmax")
