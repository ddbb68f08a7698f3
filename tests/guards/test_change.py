"""Guards that compare adapted with unadapted refuse a large change and accept a small one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta import Statistics
from monai_tta.guards import Agreement, Finite, ViewAgreement, VolumeChange
from tests.guards.example_evidence import box_logits, evidence
from tests.small import image, inferer, network


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_volume_change_and_agreement(dims, head):
    large = box_logits((4, 14), dims=dims, head=head)
    small = box_logits((4, 9), dims=dims, head=head)
    shrunk = evidence(small, large, head)
    reason = VolumeChange(0.5).check(shrunk)
    assert f"structure 1 changes from {10**dims} to {5**dims} voxels" in reason
    assert "agree" in Agreement(0.9).check(shrunk)
    assert VolumeChange(0.9).check(shrunk) is None and Agreement(0.1).check(shrunk) is None
    assert VolumeChange(0).check(evidence(large, large, head)) is None and Agreement(0.99).check(shrunk) is not None


def test_small_structures_are_not_checked_for_volume_change():
    assert VolumeChange(0.5, small=64).check(evidence(box_logits(), box_logits((3, 6)))) is None
    assert VolumeChange(0.5, small=9).check(evidence(box_logits(), box_logits((3, 6)))) is not None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))
def test_volume_change_is_symmetric(a, b, most):
    x, y = box_logits((0, a)), box_logits((0, b))
    there, back = (VolumeChange(most, small=0).check(evidence(p, q)) for p, q in ((x, y), (y, x)))
    assert (there is None) == (back is None) == (abs(a * a - b * b) <= most * max(a, b) ** 2)


def test_only_what_adaptation_made_infinite_is_refused():
    bad = box_logits((4, 9))
    bad[0, 0, 0, 0] = float("nan")
    assert Finite().check(evidence(bad, box_logits((4, 9)))) == "the adapted answer is not finite"
    assert Finite().check(evidence(bad, bad)) is None, "the image's own"
    assert Finite().check(evidence(box_logits((4, 9)))) is None, "a finite answer needs no unadapted answer"


def test_view_agreement_refuses_an_answer_that_depends_more_on_the_view():
    net = network(dims=2)

    class Broken(Statistics):
        def begin(self, source, head):
            shadow = super().begin(source, head)
            with torch.no_grad():
                last = shadow.module[6]
                last.weight = torch.nn.Parameter(torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(0)) * 30)
            return shadow

    kept = inferer(Statistics(), guard=ViewAgreement(1.0))
    kept(image(2), net)
    assert kept.cases[-1].reason is None
    refused = inferer(Broken(), guard=ViewAgreement(0.02))
    with pytest.warns(UserWarning, match="views agree"):
        refused(image(2), net)
