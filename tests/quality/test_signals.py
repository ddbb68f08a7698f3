"""Signals of an answer by hand, and against MONAI's Dice."""

from math import log

import pytest
import torch
from monai.metrics import compute_dice

from monai_tta.core.label_free_metrics import hard_masks
from monai_tta.core.record import StructureQuality
from monai_tta.quality.features import CANDIDATE_FEATURES, FEATURES, CandidateAnswer, feature_table
from monai_tta.quality.signals import (
    SIGNALS,
    entropy_per_foreground,
    max_probability,
    pairwise_dice,
    predicted_quality,
)


def drawn(seed, channels=3, n=2):
    logits = 2 * torch.randn(n, channels, 5, 6, generator=torch.Generator().manual_seed(seed))
    return logits.softmax(1)


def test_names_are_unique_and_confidence_is_higher_where_an_answer_should_be_better():
    assert len({signal.name for signal in SIGNALS}) == len(SIGNALS)
    turned = {signal.name: signal.confidence(0.3) for signal in SIGNALS}
    assert turned["entropy"] == turned["distance of layers"] == turned["volume against reference"] == -0.3
    assert turned["max probability"] == turned["pairwise Dice of views"] == turned["volume"] == 0.3


def test_the_likeliest_channel_by_hand():
    p = torch.tensor([[0.7, 0.2], [0.2, 0.5], [0.1, 0.3]])[None]  # (1, 3, 2)
    assert max_probability(p, "softmax") == pytest.approx((0.7 + 0.5) / 2)
    assert max_probability(p, "sigmoid") == pytest.approx((0.7 + 0.8 + 0.8 + 0.5 + 0.9 + 0.7) / 6)


def test_entropy_per_foreground_is_what_the_gain_predictor_sees():
    p = drawn(0)
    row = feature_table([CandidateAnswer(p, False, (0.0,) * len(CANDIDATE_FEATURES), 1.0, 1.0)], p, "softmax", [])[0]
    assert entropy_per_foreground(p, "softmax") == pytest.approx(float(row[FEATURES.index("entropy per foreground")]))
    even = torch.full((1, 2, 4, 4), 0.5)
    assert entropy_per_foreground(even, "softmax") == pytest.approx(log(2) / 0.5, rel=1e-3)


def test_pairwise_dice_is_the_mean_of_monais_over_pairs():
    answers = [hard_masks(drawn(seed), "softmax") for seed in range(3)]
    flat = [masks.transpose(0, 1).flatten(1) for masks in answers]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [compute_dice(flat[a][None], flat[b][None], include_background=True, ignore_empty=False).mean() for a, b in pairs]
    assert pairwise_dice(flat) == pytest.approx(float(torch.stack(expected).mean()))


def test_pairwise_dice_of_masks_of_which_some_are_empty():
    one = torch.tensor([[True, True, False], [False, False, False]])
    other = torch.tensor([[True, False, False], [False, False, False]])
    assert pairwise_dice([one, other]) == pytest.approx((2 / 3 + 1) / 2)  # two empty masks agree
    assert pairwise_dice([one, torch.zeros_like(one)]) == pytest.approx((0 + 1) / 2)
    with pytest.raises(ValueError, match="at least two answers, found 1"):
        pairwise_dice([one])


def test_columns_of_predicted_quality():
    others = {"nsd": 0.95, "nsd_low": 0.8, "nsd_high": 1.0}
    how = {"low": 0.5, "high": 0.9, "spread": 0.1, **others}
    two = [StructureQuality(structure=k, dice=0.6 + k / 10, ranking=0.1 + k / 5, **how) for k in (1, 2)]
    found = predicted_quality(two)
    assert found["predicted Dice"] == pytest.approx(0.75) and found["predicted Dice 2"] == 0.8
    assert found["predicted Dice 1, low"] == 0.5 and found["predicted Dice 1, high"] == 0.9
    assert found["predicted surface"] == pytest.approx(0.95) and found["predicted surface 2, low"] == 0.8
    assert found["ranking"] == pytest.approx(0.4)
    assert predicted_quality([]) == {}
