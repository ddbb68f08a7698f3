"""Entropy gradients in closed form, against autograd in float64, and what each reading of STAG can and cannot tell."""

import pytest
import torch

from monai_tta.core.entropy_gradients import class_anchors, cosines_by_feature, cosines_by_row, drawn_voxels, voxel_shares


def classifier(n_classes, n_features=5, seed=0):
    """Rows, biases, and 40 features, from uncertain to certain."""
    made = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_classes, n_features, generator=made, dtype=torch.float64)
    bias = torch.randn(n_classes, generator=made, dtype=torch.float64)
    features = torch.randn(1, n_features, 40, generator=made, dtype=torch.float64) * torch.linspace(0.1, 2, 40)
    return weight, bias, features


def gradient_by(what, weight, bias, feature, reading, c):
    """A gradient of the entropy at one feature by autograd: by the feature or by row c, of the whole or of class c's term."""
    feature, weight = feature.clone().requires_grad_(), weight.clone().requires_grad_()
    p = (weight @ feature + bias).softmax(0)
    terms = -p * p.log()
    by_feature, by_weight = torch.autograd.grad(terms[c] if reading == "term" else terms.sum(), (feature, weight))
    return by_weight[c] if what == "row" else by_feature


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("reading", ["feature", "term", "row"])
@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_cosines_are_those_of_autograds_gradients(reading, n_classes):
    weight, bias, features = classifier(n_classes)
    logits = torch.einsum("kf,nfv->nkv", weight, features) + bias[:, None]
    anchors = class_anchors(weight, bias, "softmax", reading)
    found = cosines_by_row(features, anchors) if reading == "row" else cosines_by_feature(logits, weight, anchors, reading)
    for voxel, c in enumerate(logits[0].argmax(0).tolist()):
        gradient, anchor = (gradient_by(reading, weight, bias, h, reading, c) for h in (features[0, :, voxel], weight[c]))
        assert float(found[0, c, voxel]) == pytest.approx(cosine(gradient, anchor), abs=1e-6)


def test_the_gradient_by_the_row_is_that_of_autograd_for_a_sigmoid_channel():
    """A channel with weights w is a softmax of two classes with the rows w and 0."""
    weight, bias, features = classifier(1)
    two, biases = torch.cat([weight, 0 * weight]), torch.cat([bias, 0 * bias])
    found = cosines_by_row(features, class_anchors(weight, bias, "sigmoid", "row"))
    logits = weight[0] @ features[0] + bias
    assert (logits > 0).any()
    for voxel in torch.nonzero(logits > 0)[:, 0].tolist():
        gradient, anchor = (gradient_by("row", two, biases, h, "row", 0) for h in (features[0, :, voxel], weight[0]))
        assert float(found[0, 0, voxel]) == pytest.approx(cosine(gradient, anchor), abs=1e-6)
    assert gradient_by("row", two, biases, 0 * weight[0], "row", 1).norm() == 0, "outside, there is no anchor"


@pytest.mark.parametrize("reading", ["feature", "term"])
def test_with_two_classes_a_gradient_by_the_feature_tells_nothing(reading):
    """All are on one line, so that each cosine is 1 or -1, and the term has no gradient."""
    weight, bias, features = classifier(2)
    features.requires_grad_()
    logits = torch.einsum("kf,nfv->nkv", weight, features) + bias[:, None]
    found = cosines_by_feature(logits, weight, class_anchors(weight, bias, "softmax", reading), reading)
    torch.testing.assert_close(found.abs(), torch.ones_like(found))
    (gradient,) = torch.autograd.grad((found * voxel_shares(logits, "softmax", True)).sum(), features)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("reading", ["feature", "term"])
def test_with_three_classes_it_tells_something(reading):
    weight, bias, features = classifier(3)
    features.requires_grad_()
    logits = torch.einsum("kf,nfv->nkv", weight, features) + bias[:, None]
    found = cosines_by_feature(logits, weight, class_anchors(weight, bias, "softmax", reading), reading)
    (gradient,) = torch.autograd.grad((found * voxel_shares(logits, "softmax", True)).sum(), features)
    assert gradient.abs().max() > 1e-3


def test_the_reading_by_row_is_the_attraction_to_prototypes():
    """For each class whose own row is classified as that class: the cosine of feature and row, whatever the probabilities."""
    weight, bias, features = classifier(4, n_features=9)
    own = (weight @ weight.T + bias).argmax(1) == torch.arange(4)
    assert own.any()
    found = cosines_by_row(features, class_anchors(weight, bias, "softmax", "row"))
    expected = torch.cosine_similarity(features[:, None], weight[None, :, :, None], dim=2)
    torch.testing.assert_close(found[:, own], expected[:, own])


@pytest.mark.parametrize("reading", ["feature", "term"])
@pytest.mark.parametrize("scale", [30.0, 300.0])
def test_certain_voxels_keep_their_direction_in_float32(reading, scale):
    """Their gradients are far below the smallest number; the cosines are those of float64, and finite with their gradients."""
    weight, bias, features = classifier(4)
    anchors = class_anchors(weight, bias, "softmax", reading)
    exact = torch.einsum("kf,nfv->nkv", weight, features)[..., 20:] * scale
    logits = exact.float().requires_grad_()
    found = cosines_by_feature(logits, weight.float(), anchors.float(), reading)
    expected = cosines_by_feature(logits.detach().double(), weight, anchors, reading)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.isfinite().all() and (logits.softmax(1).amax(1) == 1).float().mean() > 0.5


def test_voxels_without_a_direction_count_as_orthogonal_and_take_no_gradient():
    weight, bias, features = classifier(3)
    logits = torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(1, 5, 2, dtype=torch.float64, requires_grad=True)
    by_feature = cosines_by_feature(logits, weight, class_anchors(weight, bias, "softmax", "feature"), "feature")
    by_row = cosines_by_row(nothing, class_anchors(weight, bias, "softmax", "row"))
    gradients = torch.autograd.grad(by_feature.sum() + by_row.sum(), (logits, nothing))
    assert not by_feature.any() and not by_row.any() and not any(gradient.any() for gradient in gradients)


def test_classes_or_voxels_count_alike_within_each_window():
    logits = torch.tensor([[[2.0, 2, 2, 0], [0, 0, 0, 2], [1, 1, 1, 1]], [[0.0, 2, 0, 0], [2, 0, 0, 0], [1, 1, 2, 2]]])
    by_class, by_voxel = (voxel_shares(logits, "softmax", equal) for equal in (True, False))
    torch.testing.assert_close(by_class.sum(2), torch.tensor([[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]))
    torch.testing.assert_close(by_voxel.sum(2), torch.tensor([[3 / 4, 1 / 4, 0], [1 / 4, 1 / 4, 2 / 4]]))
    assert by_voxel.max() == 1 / 4 and (by_voxel > 0).sum() == 8
    inside = voxel_shares(torch.tensor([[[-1.0, 1, 1], [-1, -1, 1]], [[-1.0, -1, -1], [-1, -1, -1]]]), "sigmoid", True)
    torch.testing.assert_close(inside, torch.tensor([[[0, 1 / 4, 1 / 4], [0, 0, 1 / 2]], [[0.0, 0, 0], [0, 0, 0]]]))


def test_drawn_voxels_follow_the_seed():
    first, again, other = (drawn_voxels(1000, 50, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (50,) and first.max() < 1000
    assert drawn_voxels(50, 50, 0) == drawn_voxels(50, None, 0) == slice(None)
