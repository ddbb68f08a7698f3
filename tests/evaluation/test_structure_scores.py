"""The challenge's two scores against surfaces that can be worked out by hand, and its rules for empty masks."""

from math import hypot, sqrt

import pytest
import torch

from monai_tta.evaluation.scoring import scores_of
from monai_tta.evaluation.structure_scores import GivenScores, dice_and_nsd, write_structure_table
from monai_tta.transforms.headneck import STRUCTURES

THICK = (1.0, 1.0, 3.0)


def box(low, high, size=(24, 24, 16)):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


@pytest.mark.parametrize(("pred", "label", "expected"), [("", "", 1.0), ("", "x", 0.0), ("x", "", 0.0)])
def test_empty_masks(pred, label, expected):
    masks = [box((4, 4, 4), (9, 9, 9)) if given else torch.zeros(24, 24, 16, dtype=torch.bool) for given in (pred, label)]
    assert dice_and_nsd(*masks, THICK, 1.0) == (expected, expected)


def test_a_surface_counts_by_its_area_and_its_distance_in_mm():
    """A block of 20 x 20 x 10 voxels of 1 x 1 x 3 mm loses its top slice.

    Elements lie at voxels' corners: 1 x 1 or 1 x 3 mm in a face, bevelled by half a voxel at an edge, a triangle at a corner.
    """
    whole = box((2, 2, 2), (22, 22, 12))
    cut = box((2, 2, 2), (22, 22, 11))
    dice, nsd = dice_and_nsd(cut, whole, THICK, 1.0)
    assert dice == round(2 * 9 / (10 + 9), 4)
    bevel, triangle = hypot(0.5, 1.5), 0.5 * sqrt(0.25**2 + 2 * 0.75**2)
    top = 19 * 19
    rim = 4 * 19 * bevel + 4 * triangle

    def area(slices):
        return 2 * (top + rim) + (slices - 1) * (4 * 19 * 3 + 4 * 3 * sqrt(0.5))

    # The taller top lies 3 mm away with its rim. The lower one lies inside, its outermost ring 1 mm from the wall.
    wrong = top + rim + 17 * 17
    assert nsd == round(1 - wrong / (area(10) + area(9)), 4)
    assert dice_and_nsd(cut, whole, THICK, 3.0)[1] == 1, "within 3 mm all of it is right"
    assert dice_and_nsd(cut, whole, (1.0, 1.0, 0.9), 1.0)[1] == 1, "and within 1 mm where slices are thinner"
    data = {"pred": cut[None].float(), "label": whole[None].float()}
    by_voxels = scores_of(data, ("dice", "nsd"), 1.0)[0]
    assert by_voxels.dice == pytest.approx(dice, abs=1e-4) and abs(by_voxels.nsd - nsd) > 0.02, "voxels count otherwise"


def test_a_mask_at_the_edge_of_the_scan_scores_as_anywhere():
    places = [((0, 0, 0), (10, 10, 5)), ((8, 8, 6), (18, 18, 11)), ((14, 14, 11), (24, 24, 16))]
    found = {dice_and_nsd(box((a[0], a[1], a[2] + 1), b), box(a, b), THICK, 1.0) for a, b in places}
    flipped = {dice_and_nsd(box(a, (b[0], b[1], b[2] - 1)), box(a, b), THICK, 1.0) for a, b in places}
    assert len(found | flipped) == 1


def test_scores_have_four_digits():
    dice, nsd = dice_and_nsd(box((2, 2, 2), (9, 9, 9)), box((2, 2, 2), (9, 9, 12)), THICK, 1.0)
    assert dice == round(dice, 4) == 0.8235 and nsd == round(nsd, 4) and 0 < nsd < 1


def test_tolerances_by_structure():
    label = torch.stack([box((2, 2, 2), (12, 12, 9))] * 2).float()
    pred = torch.stack([box((2, 2, 2), (12, 10, 9))] * 2).float()
    tight, loose = scores_of({"pred": pred, "label": label}, ("dice", "nsd"), (1, 2))
    assert tight.dice == loose.dice and tight.nsd < loose.nsd == 1
    with pytest.raises(ValueError, match="there are 3 tolerances for 2 structures"):
        scores_of({"pred": pred, "label": label}, ("dice", "nsd"), (1, 2, 3))


def test_a_table_of_each_structures_mean(tmp_path):
    metric = GivenScores()
    scores = torch.zeros(2, 47, dtype=torch.float64)
    scores[0, 0], scores[1, 0], scores[:, 45:] = 1.0, 0.5, 0.25
    for one in scores:
        metric([one], [one])
    assert float(metric.aggregate()) == pytest.approx(float(scores.mean()))
    file = write_structure_table(tmp_path / "out", {"dice": metric.get_buffer(), "nsd": scores * 2})
    head, *rows = file.read_text(encoding="utf-8").splitlines()
    assert head == "structure,dice,nsd" and len(rows) == 49 and rows[0] == "Brain,0.7500,1.5000"
    assert [row.split(",")[0] for row in rows[:47]] == list(STRUCTURES)
    assert rows[47] == "mean of organs,0.0167,0.0333" and rows[48] == "mean of tumours,0.2500,0.5000"
