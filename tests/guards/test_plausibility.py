"""Guards that compare with limits or reference ranges refuse what is outside and accept what is inside."""

from math import log

import pytest
import torch

from monai_tta.guards import Components, Distance, Entropy, Shape
from monai_tta.guards.reference_ranges import CaseFigures, ranges_of_cases
from monai_tta.guards.shape_features import ShapeFeatures, measure_shape
from tests.guards.example_evidence import REFERENCE, box_logits, evidence


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_entropy_against_a_limit_and_against_the_reference(head):
    uniform = evidence(box_logits((4, 9), head=head) * 0, head=head)
    assert f"{log(2):.3g} nats" in Entropy(most=0.6).check(uniform) and Entropy(most=0.7).check(uniform) is None
    assert "expected" in Entropy(reference=REFERENCE).check(uniform)
    assert Entropy(reference=REFERENCE, slack=40).check(uniform) is None
    certain = evidence(box_logits((4, 9), head=head) * 9, head=head)
    assert Entropy(reference=REFERENCE).check(certain) is not None, "too certain is outside the range, too"


def test_distance_over_all_layers_and_layer_by_layer():
    near, far = evidence(box_logits(), distances=(0.2, 0.4)), evidence(box_logits(), distances=(0.2, 3.4))
    assert Distance(most=1.0).check(near) is None
    assert "1.80 standard deviations" in Distance(most=1.0).check(far) and "layer 2 of 2" in Distance(most=1.0).check(far)
    assert "like the source's own" in Distance(least=0.5).check(near) and Distance(least=0.5).check(far) is None
    assert Distance(reference=REFERENCE).check(near) is None
    assert "layer 2 of 2 is 3.40" in Distance(reference=REFERENCE).check(far)
    assert "2 layers" in Distance(reference=REFERENCE).check(evidence(box_logits(), distances=(0.1,)))
    assert Distance(most=1.0).check(evidence(box_logits(), distances=())) is None, "a network without running statistics"
    assert Distance(most=1.0).check(evidence(box_logits(), distances=(float("nan"),))) is not None


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_components_are_counted_without_specks(dims, head):
    two = evidence(box_logits((2, 6), (12, 16), dims=dims, head=head), head=head)
    assert "2 components" in Components(1).check(two)
    assert Components(2).check(two) is None and Components(1, small=9999).check(two) is None


@pytest.mark.parametrize("dims", [2, 3])
def test_shape_against_the_reference(dims):
    own = measure_shape(box_logits((4, 14), dims=dims)[0, 1] > 0, (2.0,) * dims)
    known = ranges_of_cases([CaseFigures((own,), 0.1, (), "affine")], True)
    spacing = (2.0,) * dims
    assert Shape(known).check(evidence(box_logits((4, 14), dims=dims), spacing=spacing)) is None
    assert Shape(known).check(evidence(box_logits(dims=dims), spacing=spacing)) is None, "an empty structure has no shape"
    assert "has a volume of" in Shape(known).check(evidence(box_logits((4, 8), dims=dims), spacing=spacing))
    assert "volume" in Shape(known).check(evidence(box_logits((4, 14), dims=dims), spacing=(1.0,) * dims))
    assert "no affine" in Shape(known).check(evidence(box_logits((4, 14), dims=dims)))
    stretched = (1.0, 2.0 ** (dims - 1) * 2 ** (2 - dims + 1), *[2.0] * (dims - 2))  # of the same volume
    assert "elongation" in Shape(known).check(evidence(box_logits((4, 14), dims=dims), spacing=stretched))


def test_shape_refuses_structures_that_the_reference_does_not_know():
    assert "has 2" in Shape(REFERENCE).check(evidence(torch.randn(1, 3, 8, 8)))
    unseen = ranges_of_cases([CaseFigures((ShapeFeatures(0, 0, float("nan"), float("nan")),), 0.1, (), "voxel")], False)
    assert "none of the source's cases" in Shape(unseen).check(evidence(box_logits((4, 9))))
