"""Points, boxes and labels of a mask."""

import torch

from monai_tta.core.point_prompts import bounding_box, depth, padded_points, spread_points


def box_mask(*shape, first, last):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = True
    return mask


def test_depth_is_the_distance_to_the_nearest_voxel_outside():
    mask = box_mask(9, 12, first=(2, 3), last=(6, 9))
    found = depth(mask)
    assert found[4, 6] == 3 and found[2, 3] == 1 and found[0, 0] == 0 and found.max() == 3
    assert depth(torch.zeros(4, 4, dtype=torch.bool)).max() == 0


def test_a_mask_that_fills_the_window_is_deepest_in_the_middle_and_one_cut_off_by_it_at_the_border():
    full = torch.ones(7, 7, 7, dtype=torch.bool)
    assert spread_points(depth(full), full, 1, depth(full)) == [(3, 3, 3)]
    cut = box_mask(7, 7, first=(0, 0), last=(3, 6))
    assert spread_points(depth(cut), cut, 1, depth(cut))[0][0] == 0


def test_points_keep_out_of_each_others_room_and_come_best_first():
    mask = box_mask(20, 40, first=(5, 2), last=(13, 10)) | box_mask(20, 40, first=(7, 25), last=(11, 29))
    inside = depth(mask)
    points = spread_points(inside, mask, 2, inside)
    assert points == [(9, 6), (9, 27)]
    score = torch.arange(30.0).view(5, 6)
    everywhere = torch.ones(5, 6, dtype=torch.bool)
    assert spread_points(score, everywhere, 2, torch.zeros(5, 6)) == [(4, 5), (4, 3)]  # a room of at least one voxel
    assert len(spread_points(score, everywhere, 99, torch.full((5, 6), 9.0))) == 1
    assert spread_points(score, ~everywhere, 3, torch.zeros(5, 6)) == []


def test_objects_with_fewer_points_are_padded():
    points, labels = padded_points([[(1, 2)], [(3, 4), (5, 6)], []], [[1], [0, 1], []], 2, torch.device("cpu"))
    assert points.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]], [[0, 0], [0, 0]]]
    assert labels.tolist() == [[1, -1], [0, 1], [-1, -1]]


def test_a_box_holds_its_mask():
    assert bounding_box(box_mask(6, 7, 8, first=(1, 0, 2), last=(4, 3, 7))) == [1, 0, 2, 4, 3, 7]
