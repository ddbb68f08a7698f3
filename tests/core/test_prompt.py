"""A prompt on an image's low frequencies."""

import pytest
import torch
from torch import nn

from monai_tta import Prompt, Tent
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.prompt import PROMPT
from tests.small import FAST, image, inferer, network, run

WAVES = Prompt(frequencies=2, wavelength=5.0)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_prompt_of_ones_changes_nothing(dims):
    x = torch.randn(2, 3, *(11, 12, 9)[:dims], dtype=torch.float64)
    ones = torch.ones(1, 3, *[5] * dims, dtype=torch.float64)
    torch.testing.assert_close(WAVES.apply(ones, x), x)


@pytest.mark.parametrize("shape", [(12, 16), (11, 13), (8, 10, 12)])
@pytest.mark.parametrize("axis", [0, 1])
def test_each_factor_scales_one_wave_of_one_channel(shape, axis):
    """A wave of one cycle, one of two and one of three cycles along an axis; the second one's factor is 3."""
    side = shape[axis]
    place = torch.arange(side, dtype=torch.float64).view([-1 if k == axis else 1 for k in range(len(shape))])
    waves = [torch.cos(2 * torch.pi * cycles * place / side + cycles).expand(shape) for cycles in (1, 2, 3)]
    x = torch.stack([sum(waves), sum(waves)])[None]
    prompt = torch.ones(1, 2, *[5] * len(shape), dtype=torch.float64)
    centre = [2] * len(shape)
    for sign in (-2, 2):
        prompt[(0, 1, *[2 + sign if k == axis else 2 for k in range(len(shape))])] = 3
    answer = Prompt(frequencies=2, wavelength=4.0).apply(prompt, x)
    torch.testing.assert_close(answer[0, 0], x[0, 0])
    torch.testing.assert_close(answer[0, 1], waves[0] + 3 * waves[1] + waves[2])
    for sign in (-2, 2):  # a factor of one sign alone acts half on each of the two frequencies
        prompt = torch.ones_like(prompt)
        prompt[(0, 1, *[2 + sign if k == axis else 2 for k in range(len(shape))])] = 3
        answer = Prompt(frequencies=2, wavelength=4.0).apply(prompt, x)
        torch.testing.assert_close(answer[0, 1], waves[0] + 2 * waves[1] + waves[2])
    prompt = torch.ones_like(prompt)
    prompt[(0, 0, *centre)] = 2
    torch.testing.assert_close(WAVES.apply(prompt, x + 1)[0, 0], x[0, 0] + 2)


def test_how_many_frequencies_follows_from_the_wavelength():
    paper = Prompt()
    assert paper.cycles((512, 352)) == [2, 1]  # 5 and 3 entries, as int(0.01 * side) in the paper
    assert paper.cycles((64, 64, 64)) == [1, 1, 1] and paper.cycles((4096, 2)) == [4, 0]
    assert Prompt(wavelength=40.0, spacing=(1.0, 1.0, 3.0)).cycles((96, 120, 48)) == [2, 3, 3]
    with pytest.raises(CannotAdapt, match="spacing for 3 axes"):
        Prompt(spacing=(1.0, 1.0, 3.0)).cycles((96, 96))


def test_the_published_place_is_off_centre_in_windows_of_an_even_side():
    for side, first in ((512, -3), (352, -2), (33, -1)):
        published = Prompt(published=True, frequencies=2, wavelength=200.0)
        rows = published.places((side, side))[0][:, 0]
        assert rows.tolist() == [(first + k) % side for k in range(len(rows))]


@pytest.mark.parametrize("choices", [{"frequencies": 0}, {"frequencies": 1.5}, {"wavelength": 0.0}, {"spacing": (1.0, -1.0)}])
def test_choices_out_of_range_are_refused(choices):
    with pytest.raises(ValueError, match="found"):
        Prompt(**choices)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["batch", "group", "instance"])
def test_any_method_can_move_it(dims, kind):
    net = network(kind, dims)
    ran = inferer(Tent(select=Prompt(frequencies=1), optimizer=FAST))
    ran(image(dims), net)
    case = ran.cases[-1]
    assert case.n_moving == 3**dims and case.weight_distance > 0 and case.reason is None
    assert PROMPT not in dict(net.named_parameters())


def test_images_of_other_channels_than_the_first_convolution_takes_are_refused():
    class Doubles(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv3d(2, 4, 1), nn.BatchNorm3d(4), nn.Conv3d(4, 3, 1))

        def forward(self, x):
            return self.net(torch.cat([x, x], 1))

    _, case = run(Doubles().eval(), Tent(select=Prompt()))
    assert "the prompt is for 2 channels" in case.reason
    _, case = run(nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (8, 8, 8)), nn.Softplus()), Tent(select=Prompt()))
    assert "nothing to adapt" in case.reason
