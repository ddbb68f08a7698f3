"""Metrics that need no label, on answers whose metrics are known."""

from math import isnan, log

import pytest
import torch
from torch import nn

from monai_tta.core.label_free_metrics import (
    agreement,
    confidence,
    foreground_fraction,
    mean_by_third,
    mean_entropy,
    uncertain_fraction,
)
from monai_tta.core.shadow import Shadow


def test_agreement_of_masks_is_dice_and_of_empty_masks_one():
    a = torch.zeros(1, 1, 4, 4)
    b = torch.zeros(1, 1, 4, 4)
    assert agreement(a, b, "sigmoid") == 1
    a[..., :2, :] = 1
    b[..., 1:3, :] = 1
    assert agreement(a, b, "sigmoid") == pytest.approx(0.5)
    assert agreement(torch.cat([1 - a, a], 1), torch.cat([1 - b, b], 1), "softmax") == pytest.approx(0.5)


def test_agreement_leaves_out_structures_that_neither_answer_has():
    a = torch.zeros(1, 3, 4, 4)
    a[:, 0] = 1
    b = a.clone()
    for answer in (a, b):  # one row of the first structure; nothing of the second
        answer[:, :2, 0] = torch.tensor([0.0, 1.0]).view(1, 2, 1)
    assert agreement(a, b, "softmax") == pytest.approx(1)


def test_entropy_is_log_two_for_even_odds_and_zero_for_certainty():
    p = torch.full((1, 1, 2, 2), 0.5)
    assert mean_entropy(p, "sigmoid") == pytest.approx(log(2))
    assert mean_entropy(torch.cat([p, p], 1), "softmax") == pytest.approx(log(2))
    assert mean_entropy(torch.ones(1, 1, 2, 2), "sigmoid") == 0


def test_fractions_and_confidence():
    p = torch.tensor([0.0, 0.2, 0.8, 1.0]).view(1, 1, 2, 2)
    assert foreground_fraction(p, "sigmoid") == pytest.approx(0.5)
    assert confidence(p, "sigmoid") == pytest.approx(0.9)
    assert uncertain_fraction(p, "sigmoid") == pytest.approx(1)
    assert confidence(p * 0, "sigmoid") == 0.5


def test_a_third_without_layers_has_no_mean():
    assert mean_by_third([1, 2, 3]) == (1, 2, 3)
    early, middle, late = mean_by_third([4])
    assert isnan(early) and isnan(middle) and late == 4


def test_distance_is_zero_at_the_source_and_counts_standard_deviations():
    norm = nn.BatchNorm2d(1, affine=False)
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(4.0)
    shadow = Shadow(nn.Sequential(norm).eval(), "sigmoid", None)
    x = torch.tensor([1.0, 5.0]).repeat(8).view(1, 1, 4, 4)  # mean 3, standard deviation 2
    assert shadow.distances(x) == [pytest.approx(0, abs=1e-5)]
    assert shadow.distances(x + 4) == [pytest.approx(2, abs=1e-4)]
    assert shadow.distances((x - 3) * 2 + 3) == [pytest.approx(log(2), abs=1e-4)]
    assert not any(m._forward_pre_hooks for m in shadow.module.modules())


def test_a_layer_without_running_statistics_has_no_distance():
    assert Shadow(nn.Sequential(nn.InstanceNorm2d(1)).eval(), "sigmoid", None).distances(torch.rand(1, 1, 4, 4)) == []
