"""Scores against masks whose distances can be counted, and what becomes of empty ones."""

from math import isnan

import pytest
import torch
from monai.data import MetaTensor

from monai_tta.evaluation.scoring import scores_of
from monai_tta.reporting.rows import Score


def square(left, size=4, n=16):
    mask = torch.zeros(1, n, n)
    mask[0, 4 : 4 + size, left : left + size] = 1
    return mask


def test_dice_by_hand():
    pred, label = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    pred[1, :2], label[1, :1] = 1, 1
    pred[0], label[0] = 1 - pred[1], 1 - label[1]
    first, second = scores_of({"pred": pred, "label": label})
    assert first.dice == pytest.approx(2 * 4 / (8 + 4)) and isnan(second.dice)
    nested = scores_of({"pred": torch.stack([pred[1], pred[1]]), "label": torch.stack([label[1], pred[1]])})
    assert [s.dice for s in nested] == pytest.approx([2 / 3, 1.0])


def test_distances_by_hand():
    """A square of 4 x 4 moved by two columns: of its 12 border pixels, those of the right columns move away by 2, ..."""
    (score,) = scores_of({"pred": square(6), "label": square(4)}, tolerance=1)
    edge = [(r, c) for r in range(4) for c in range(4) if r in (0, 3) or c in (0, 3)]
    far = [min(((r - a) ** 2 + (c + 2 - b) ** 2) ** 0.5 for a, b in edge) for r, c in edge]
    assert score.assd == pytest.approx(sum(far) / len(far))  # the way back is the same by symmetry
    assert score.nsd == pytest.approx(sum(d <= 1 for d in far) / len(far)) and score.hd95 == pytest.approx(2)
    assert scores_of({"pred": square(6), "label": square(4)}, tolerance=2)[0].nsd == 1


def test_distances_are_in_the_spacing_of_the_label():
    plain = scores_of({"pred": square(6), "label": square(4)})[0]
    wide = MetaTensor(square(4), affine=torch.diag(torch.tensor([3.0, 3.0, 1.0, 1.0])))
    for data in ({"label": wide}, {"label": square(4), "image": wide}):
        (score,) = scores_of({"pred": square(6), **data}, tolerance=3)
        assert (score.hd95, score.assd) == pytest.approx((3 * plain.hd95, 3 * plain.assd))
        assert (score.dice, score.nsd) == pytest.approx((plain.dice, plain.nsd))


def test_empty_masks_are_never_a_silent_zero():
    nothing = torch.zeros(1, 16, 16)
    (absent,) = scores_of({"pred": nothing, "label": nothing})
    (invented,) = scores_of({"pred": square(4), "label": nothing})
    (missed,) = scores_of({"pred": nothing, "label": square(4)})
    assert (absent.reason, invented.reason, missed.reason) == ("absent", "invented", "missed")
    for score in (absent, invented):
        assert all(map(isnan, (score.dice, score.nsd, score.hd95, score.assd)))
    assert (missed.dice, missed.nsd) == (0, 0) and isnan(missed.hd95) and isnan(missed.assd)
    (whole,) = scores_of({"pred": square(4), "label": square(4)})
    assert whole == Score(1.0, 1.0, 0.0, 0.0)


def test_only_the_metrics_asked_for():
    (score,) = scores_of({"pred": square(6), "label": square(4)}, ("dice", "hd95"))
    assert score.dice == 0.5 and score.hd95 == 2 and isnan(score.nsd) and isnan(score.assd)
    (missed,) = scores_of({"pred": torch.zeros(1, 16, 16), "label": square(4)}, ("dice",))
    assert missed.dice == 0 and isnan(missed.nsd)
    with pytest.raises(ValueError, match=r"\(1, 16, 16\) and the label \(1, 8, 8\)"):
        scores_of({"pred": square(4), "label": square(2, n=8)})
