"""Distortions: they depend on the seed alone, move label and image together, and keep what normalisation would restore."""

import pytest
import torch

from monai_tta.preparation.distortions import FAMILIES, Distortion


def square(dims=2, size=32):
    """A bright square or cube in grey, and its label."""
    label = torch.zeros(1, *[size] * dims)
    label[(slice(None), *[slice(8, 24)] * dims)] = 1
    return label * 0.6 + 0.2, label


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("preserve", ["range", "moments"])
def test_a_distortion_depends_on_the_seed_alone_and_preserves_what_it_should(dims, preserve):
    image, label = square(dims)
    state = torch.get_rng_state()
    for seed in range(6):
        distorted, moved = Distortion(preserve)(image, label, seed)
        again, moved_again = Distortion(preserve)(image, label, seed)
        assert torch.equal(distorted, again) and torch.equal(moved, moved_again)
        assert distorted.shape == image.shape and moved.shape == label.shape
        assert set(moved.unique().tolist()) <= {0.0, 1.0}
        assert distorted.isfinite().all() and type(distorted) is torch.Tensor
        if preserve == "range":
            assert distorted.min() >= image.min() - 1e-6 and distorted.max() <= image.max() + 1e-6
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(Distortion(preserve)(image, label, 1)[0], Distortion(preserve)(image, label, 2)[0])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_label_moves_with_the_image(dims):
    image, label = square(dims)
    reframe_only = Distortion(families=())
    for seed in range(8):
        distorted, moved = reframe_only(image, label, seed)
        assert distorted[moved > 0].mean() > 0.7 and distorted[moved == 0].mean() < 0.4


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_changes_the_image(family):
    image, label = square()
    image = torch.cat([image, 0.5 * image])
    with_family = Distortion(families=(family,), most=1)
    reframe_only = Distortion(families=())
    pairs = [(with_family(image, label, seed)[0], reframe_only(image, label, seed)[0]) for seed in range(12)]
    assert any(not torch.allclose(a, b, atol=0.02) for a, b in pairs)


def test_a_remap_keeps_the_order_of_values():
    values = torch.linspace(-3, 5, 200).view(1, 10, 20)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        remapped = FAMILIES["remap"](values, lambda a, b, g=generator: a + (b - a) * float(torch.rand((), generator=g)))
        assert (remapped.flatten().diff() >= -1e-6).all() and not torch.allclose(remapped, values, atol=0.1)
        assert float(remapped.min()) == pytest.approx(-3) and float(remapped.max()) == pytest.approx(5)


@pytest.mark.parametrize("choices", [{"preserve": "nothing"}, {"families": ("gamma", "magic")}])
def test_unknown_choices_are_refused(choices):
    with pytest.raises(ValueError, match="preserve|magic"):
        Distortion(**choices)
