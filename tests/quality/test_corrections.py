"""Corrections undo their fault on the image, and themselves on the mask."""

import pytest
import torch
from monai.data import MetaTensor

from monai_tta.quality.corrections import ChannelOrder, CropBorder, Intensity, Reorder, ScaledSpacing
from monai_tta.quality.possible_corrections import HomeScale, canonical_axes, home_scale, possible_corrections

USUAL = HomeScale((-1000.0, 0.0, 1000.0), (1.0, 1.0, 3.0))


def scan(shape=(4, 5, 6), channels=1, affine=None):
    """Every voxel has a value of its own."""
    values = torch.arange(channels * torch.Size(shape).numel(), dtype=torch.float32).reshape(channels, *shape)
    return MetaTensor(values, affine=torch.eye(4, dtype=torch.float64) if affine is None else affine)


def named(image, usual=USUAL):
    return {correction.name: correction for correction in possible_corrections(image, usual)}


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5)])
def test_a_turned_image_comes_back_and_so_does_its_mask(shape):
    image = scan(shape)
    turns = [c for c in possible_corrections(image) if isinstance(c, Reorder)]
    assert len(turns) == (12 if len(shape) == 3 else 7)
    assert len({c.name for c in turns}) == len(turns)
    for correction in turns:
        faulty = correction.undo(image, image)
        corrected = correction.apply(faulty)
        assert torch.equal(torch.as_tensor(corrected), torch.as_tensor(image)), correction.name
        mask = (corrected > 30).float()
        assert torch.equal(torch.as_tensor(correction.undo(mask, faulty)), torch.as_tensor(faulty > 30).float()), correction.name
        assert not torch.equal(torch.as_tensor(faulty), torch.as_tensor(image)) or faulty.shape != image.shape


def test_words_name_the_directions_of_the_body_not_of_the_array():
    affine = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    image = scan(affine=affine)
    assert canonical_axes(image) == [1, 2, 0]
    assert "front-back" in named(image)["mirror 0"].words and "left-right" in named(image)["mirror 2"].words
    assert "LPS is taken for RAS" in named(image)["mirror 0,2"].words


def test_a_border_is_found_cut_away_and_given_back_as_background():
    inside = torch.rand(1, 4, 5, 6) + 1
    image = MetaTensor(torch.nn.functional.pad(inside, (1, 2, 0, 3, 2, 0)), affine=torch.eye(4))
    border = named(image)["border"]
    assert torch.equal(torch.as_tensor(border.apply(image)), inside)
    mask = torch.full((1, 4, 5, 6), 255.0)  # a bundle whose background is white
    mask[0, 1:3, 1:3, 1:3] = 7
    back = border.undo(mask, image)
    assert back.shape == image.shape and (back == 7).sum() == 8
    assert (back == 255).sum() == back.numel() - 8
    assert torch.equal(back[:, 2:, :5, 1:7], mask)
    assert "border" not in named(scan())


def test_a_constant_image_has_no_border():
    assert "border" not in named(MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.eye(4)))


def test_intensities_come_back():
    right = scan() * 10 - 500
    upside_down = float(right.min() + right.max()) - right
    assert torch.allclose(torch.as_tensor(named(upside_down)["inverted"].apply(upside_down)), torch.as_tensor(right))
    assert torch.equal(torch.as_tensor(named(right)["minus 1024"].apply(right + 1024)), torch.as_tensor(right))
    assert torch.equal(torch.as_tensor(named(right)["plus 1024"].apply(right - 1024)), torch.as_tensor(right))
    usual = home_scale(right)
    for fault, name in [
        (lambda x: (x - x.min()) / (x.max() - x.min()), "normalised"),
        (lambda x: (x - x.mean()) / x.std(), "normalised"),
        (lambda x: 255 * (x - x.min()) / (x.max() - x.min()), "0 to 255"),
        (lambda x: (x + 1024) * 5, "rescale slope"),
    ]:
        wrong = fault(right)
        assert torch.allclose(torch.as_tensor(named(wrong, usual)[name].apply(wrong)), torch.as_tensor(right), atol=0.5), name


def test_a_scale_like_home_is_left_alone():
    image = scan() * 10 - 500
    assert not {"normalised", "0 to 255", "rescale slope"} & set(named(image * 1.2 + 20, home_scale(image)))


def test_spacings_come_back_and_voxels_stay():
    image = scan()
    lost = named(image)["spacing lost"]
    corrected = lost.apply(image)
    assert torch.allclose(corrected.affine.norm(dim=0)[:3], torch.tensor([1.0, 1, 3], dtype=torch.float64))
    assert torch.equal(torch.as_tensor(corrected), torch.as_tensor(image))
    assert torch.equal(image.affine, torch.eye(4, dtype=torch.float64)), "the given image is as it was"
    assert float(named(image)["spacing x 10"].apply(image).affine[0, 0]) == 10
    assert "spacing lost" not in named(scan(affine=torch.diag(torch.tensor([1.0, 1, 3, 1]))))


def test_colours_change_places():
    photograph = scan((4, 5), channels=3)
    assert torch.equal(torch.as_tensor(named(photograph)["colours"].apply(photograph)[0]), torch.as_tensor(photograph[2]))
    assert "colours" not in named(scan((4, 5)))


def test_corrections_are_values():
    for one in (
        Reorder("w", (1, 0), (0,)),
        Intensity("w", "l", 2.0),
        ChannelOrder("w"),
        ScaledSpacing("w"),
        CropBorder("w", (1,), (2,)),
    ):
        assert hash(one) == hash(eval(repr(one)))
