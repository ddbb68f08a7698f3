"""Masked context: which patches are blanked, with what, and every law of a method that goes down this loss."""

from dataclasses import replace

import pytest
import torch

from monai_tta import Consistency, GraTa, MaskedContextTask, NormAffine
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.shadow import Shadow
from tests import test_laws as laws
from tests.small import FAST, NORMS, ROWS, image, inferer, network, run

MASKED = MaskedContextTask(patch=3)


def chosen(task, shape, seed=0, n=1, target=None, head="softmax"):
    """The blanked voxels; where no answer is given, class 1 fills the first half of the last axis."""
    if target is None:
        target = torch.zeros(n, 2, *shape)
        target[:, 1, ..., : shape[-1] // 2] = 1
        target[:, 0] = 1 - target[:, 1]
    return task.choose(target, head, [seed + k for k in range(len(target))])


@pytest.mark.parametrize("shape, patch, n_patches", [((12, 16), 4, 12), ((13, 18), 4, 20), ((9, 10, 7), (4, 3, 7), 12)])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9])
def test_a_fixed_share_of_whole_patches_is_blanked(shape, patch, n_patches, share):
    masks = chosen(MaskedContextTask(patch=patch, share=share), shape, n=3)
    sides = [patch] * len(shape) if isinstance(patch, int) else patch
    assert masks.shape == (3, 1, *shape) and masks.dtype == torch.bool
    for mask in masks[:, 0]:
        n_blanked = 0
        for place in torch.cartesian_prod(*(torch.arange(0, length, side) for length, side in zip(shape, sides, strict=True))):
            inside = mask[tuple(slice(int(p), int(p) + side) for p, side in zip(place, sides, strict=True))]
            assert inside.all() or not inside.any()
            n_blanked += int(inside.any())
        assert n_blanked == min(max(round(share * n_patches), 1), n_patches - 1)


@pytest.mark.parametrize("attention", ["foreground", "entropy"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_active_patches_are_blanked_more_often_by_the_chosen_factor(attention, head):
    p = torch.full((1, 1, 8, 16), 1e-7 if attention == "foreground" else 1.0)
    p[..., :8] = 1.0 if attention == "foreground" else 0.5  # the left half is active
    target = torch.cat([1 - p, p], 1) if head == "softmax" else p
    task = MaskedContextTask(patch=4, share=0.01, attention=attention, preference=4.0)  # one of eight patches
    left = sum(bool(chosen(task, (8, 16), seed, target=target, head=head)[..., :8].any()) for seed in range(2000))
    assert left / 2000 == pytest.approx(4 / 5, abs=0.03)
    evenly = replace(task, attention="none")
    left = sum(bool(chosen(evenly, (8, 16), seed, target=target, head=head)[..., :8].any()) for seed in range(2000))
    assert left / 2000 == pytest.approx(1 / 2, abs=0.04)


def test_an_answer_without_any_activity_blanks_evenly():
    background = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])[None]
    task = MaskedContextTask(patch=2)
    assert torch.equal(chosen(task, (4, 4), 5, target=background), chosen(replace(task, preference=1.0), (4, 4), 5))


@pytest.mark.parametrize("fill", ["mean", "noise", "zero"])
@pytest.mark.parametrize("dims", [2, 3])
def test_blanks_hold_what_was_chosen_and_all_else_stays(fill, dims):
    x = torch.randn(2, 3, *[24] * dims, generator=torch.Generator().manual_seed(0)) * 5 + 40
    x[:, 1] -= 60
    task = MaskedContextTask(patch=6, fill=fill)
    mask = torch.zeros(2, 1, *[24] * dims, dtype=torch.bool)
    mask[..., 6:18] = True
    out = task.blank(x, mask, [7, 8])
    assert torch.equal(out[~mask.expand_as(x)], x[~mask.expand_as(x)]) and out.dtype == x.dtype
    inside = out[..., 6:18].flatten(2)
    if fill == "zero":
        assert not inside.any()
        return
    torch.testing.assert_close(inside.mean(2), x.flatten(2).mean(2), atol=1.5, rtol=0)
    if fill == "mean":
        torch.testing.assert_close(inside, x.flatten(2).mean(2, keepdim=True).expand_as(inside))
    else:
        torch.testing.assert_close(inside.std(2), x.flatten(2).std(2), atol=1.0, rtol=0)
        assert not torch.equal(inside[0], inside[1]) and torch.equal(out, task.blank(x, mask, [7, 8]))


def test_the_default_patch_is_an_eighth_of_the_window_but_four_voxels():
    assert MaskedContextTask().sides((96, 100, 24)) == [12, 13, 4]
    assert MaskedContextTask().sides((3, 512)) == [3, 64]
    assert MaskedContextTask(patch=20).sides((16, 64)) == [16, 20]


def test_the_target_is_the_whole_windows_answer_and_takes_no_gradient():
    seen = []

    class Recorded(Shadow):
        def __call__(self, windows):
            seen.append((windows, torch.is_grad_enabled()))
            return super().__call__(windows)

    shadow = Recorded(network(), "softmax", NormAffine(), "window")
    x = image(size=9)
    MASKED(shadow, x)
    (whole, learns_whole), (blanked, learns_blanked) = seen
    assert torch.equal(whole, x) and not torch.equal(blanked, x) and (learns_whole, learns_blanked) == (False, True)


def test_each_windows_blanks_follow_its_own_seed():
    target = torch.rand(3, 2, 9, 9).softmax(1)
    together = MASKED.choose(target, "softmax", [4, 5, 6])
    alone = torch.cat([MASKED.choose(window[None], "softmax", [4 + k]) for k, window in enumerate(target)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, MASKED.choose(target, "softmax", [7, 8, 9]))


@pytest.mark.parametrize(
    "choices",
    [
        {"share": 0.0},
        {"share": 1.0},
        {"preference": 0.5},
        {"patch": 0},
        {"patch": (4, 0)},
        {"attention": "edges"},
        {"fill": "one"},
    ],
)
def test_choices_out_of_range_are_refused(choices):
    with pytest.raises(ValueError, match="found"):
        MaskedContextTask(**choices)


def test_windows_of_one_patch_or_of_other_axes_keep_the_unadapted_answer():
    _, case = run(network(), Consistency(objective=MaskedContextTask(patch=8)))
    assert "is a single patch of (8, 8, 8)" in case.reason
    _, case = run(network(), Consistency(objective=MaskedContextTask(patch=(4, 4))))
    assert "the patch has 2 sides, and windows have 3 axes" in case.reason
    with pytest.raises(CannotAdapt):
        MaskedContextTask(patch=4).choose(torch.rand(1, 2, 4, 4), "softmax", [0])


@pytest.mark.parametrize("role", ["auxiliary", "pseudo"])
@pytest.mark.parametrize("statistics", ["source", "window", "volume"])
def test_it_can_take_either_role_of_grata_with_any_statistics(role, statistics):
    ran = inferer(GraTa(optimizer=FAST, statistics=statistics, **{role: MASKED}))
    ran(image(), network())
    assert ran.cases[-1].reason is None and ran.cases[-1].weight_distance > 0


@pytest.fixture
def masked_row(monkeypatch):
    """GraTa's row of the laws with this task."""
    monkeypatch.setitem(ROWS, "GraTa", replace(ROWS["GraTa"], pseudo=MASKED))
    return "GraTa"


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_law_of_the_source_and_the_form_of_the_answer(masked_row, kind, dims, head):
    laws.test_the_source_stays_and_the_answer_has_the_unadapted_ones_form(masked_row, kind, dims, head)


@pytest.mark.parametrize("statistics", ["window", "volume"])
def test_law_of_the_batch_size(masked_row, statistics):
    laws.test_the_batch_size_of_windows_changes_rounding_only(masked_row, statistics)


@pytest.mark.parametrize(
    "law",
    [
        laws.test_a_learning_rate_of_zero_leaves_the_statistics_alone,
        laws.test_an_episodic_run_forgets_and_a_continual_one_remembers,
        laws.test_the_callers_grad_mode_changes_nothing,
        laws.test_a_method_is_a_value,
        laws.test_a_continual_run_starts_again_when_the_source_gets_new_weights,
        laws.test_windows_with_nan_are_left_out,
    ],
)
def test_laws_without_further_choices(masked_row, law):
    law(masked_row)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_law_of_wrappers(masked_row, weight):
    laws.test_a_wrappers_loss_reaches_the_inner_method(masked_row, weight)


@pytest.mark.parametrize("learn", ["volume", "window"])
def test_law_of_autocast_and_of_unusable_images(masked_row, learn):
    laws.test_autocast_answers_with_the_moved_weights(masked_row, learn)
    for value in (float("nan"), 3.0):
        laws.test_unusable_images_never_reach_the_weights(masked_row, learn, value)
