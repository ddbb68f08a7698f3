"""Which cases are shown, and how they are drawn."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from monai_tta.reporting.case_pictures import ADAPTED, LABEL, SIZE, STRIP, UNADAPTED, draw_case
from monai_tta.reporting.example_cases import MOST_CONTENDERS, chosen_contenders, example_cases
from monai_tta.reporting.summary import tables_of
from tests.reporting.example_rows import changed, row


def examples(rows):
    (table,) = tables_of(rows)
    return {(e.key.contender, e.rank): e for e in example_cases(table, rows)}


def test_worst_median_and_best_are_by_change():
    found = examples(changed({"X": [0.2, -0.1, 0.0, float("nan"), 0.1], "Y": [0.0] * 5}))
    assert {rank: e.key.number for (name, rank), e in found.items() if name == "X"} == {"worst": 1, "median": 2, "best": 0}
    best = found["X", "best"]
    assert (best.before, best.after) == pytest.approx((0.7, 0.9)) and best.picture == "m_d_4_X_seed-0_case-0.png"
    assert best.caption == "X, best case (number 0, seed 0): Dice 0.700 to 0.900, +20.0 points"
    assert not any(name == "Source" for name, _ in found)


@pytest.mark.parametrize(("count", "ranks"), [(1, ["only"]), (2, ["worst", "best"]), (3, ["worst", "median", "best"])])
def test_no_case_is_shown_twice(count, ranks):
    found = examples(changed({"X": [0.1 * k for k in range(count)]}))
    assert [rank for _, rank in found] == ranks and len({e.key.number for e in found.values()}) == count


def test_of_several_seeds_the_one_closest_to_the_mean_is_shown():
    rows = [row(name, 0, (dice,), seed=seed) for seed, dice in enumerate((0.5, 0.6, 0.9)) for name in ("Source",)]
    rows += [row("X", 0, (dice + gain,), seed=seed) for seed, dice, gain in ((0, 0.5, 0.0), (1, 0.6, 0.09), (2, 0.9, 0.3))]
    (only,) = examples(rows).values()
    assert only.key.seed == 1 and (only.before, only.after) == pytest.approx((0.6, 0.69))


def test_without_names_the_contenders_with_the_largest_change_are_shown():
    (table,) = tables_of(changed({f"X{k}": [0.01 * k, 0.02 * k] for k in range(6)}))
    assert chosen_contenders(table) == {f"X{k}" for k in range(6 - MOST_CONTENDERS, 6)}
    assert chosen_contenders(table, ["X0"]) == {"X0"}


def drawn(image, label, unadapted, adapted, pixel=(1.0, 1.0)):
    return np.asarray(Image.open(BytesIO(draw_case(image, label, unadapted, adapted, pixel))))


def blob(shape, rows, columns):
    mask = np.zeros((1, *shape), bool)
    mask[0, slice(*rows), slice(*columns)] = True
    return mask


def has(pixels, colour):
    return bool((pixels == colour).all(-1).any())


def test_a_picture_has_the_outlines_in_their_panels():
    shape = (40, 40)
    label, first, second = blob(shape, (10, 20), (10, 20)), blob(shape, (12, 26), (10, 20)), blob(shape, (8, 20), (8, 20))
    pixels = drawn(np.random.default_rng(0).normal(size=shape), label, first, second)
    third = pixels.shape[1] // 3
    panels = [pixels[STRIP:, k * third : (k + 1) * third] for k in range(3)]
    assert [[has(p, colour) for colour in (LABEL, UNADAPTED, ADAPTED)] for p in panels] == [
        [False, False, False],
        [True, True, False],
        [True, False, True],
    ]


def test_a_picture_keeps_the_ratio_of_the_voxels():
    full = blob((30, 60), (0, 30), (0, 60))
    pixels = drawn(np.zeros((30, 60)), full, full, full, pixel=(4.0, 1.0))  # 120 by 60 mm
    assert pixels.shape[0] - STRIP == SIZE and pixels.shape[1] // 3 == pytest.approx(SIZE / 2, abs=8)


def test_a_picture_is_cut_to_the_structure_with_a_margin():
    image = np.zeros((200, 200))
    image[100:110, 100:110] = 1
    label = blob(image.shape, (100, 110), (100, 110))
    pixels = drawn(image, label, label, label)[STRIP:, :SIZE]
    assert np.mean(pixels > 128) == pytest.approx((10 / 14) ** 2, abs=0.05)  # two pixels of margin on each side


def test_photographs_keep_their_colours_and_odd_images_are_drawn():
    image = np.zeros((20, 20, 3))
    image[..., 0] = 1.0
    empty = np.zeros((1, 20, 20), bool)
    pixels = drawn(image, empty, empty, empty)[STRIP:, :SIZE]
    assert (pixels == (255, 0, 0)).all()
    assert drawn(np.full((20, 20), np.nan), empty, empty, empty).shape[2] == 3
