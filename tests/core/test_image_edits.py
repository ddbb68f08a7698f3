"""Edited windows: what each edit does to an image, and what it leaves alone."""

import pytest
import torch

from monai_tta import ImageEdit
from monai_tta.core.image_edits import EDITS, edit_image
from tests.small import image, network, run


def ramp(dims):
    """A step edge with a slope beside it, in HU."""
    x = torch.zeros(1, 1, *[16] * dims)
    x[..., 8:] = 600.0
    return x + torch.linspace(-200, 200, 16).view([16] + [1] * (dims - 1))


def edge(x):
    """The largest step between neighbours along the last axis, in standard deviations."""
    return float(x.diff(dim=-1).abs().max() / x.std())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.float64])
def test_moments_and_everything_around_stay(dims, edit, kind):
    x = torch.cat([ramp(dims), 2 * ramp(dims) + 50]).to(kind)
    before = x.clone()
    y = edit_image(x, edit)
    assert torch.equal(x, before) and y.dtype == kind and y.shape == x.shape and type(y) is torch.Tensor
    for a, b in zip(y.double(), x.double(), strict=True):
        assert float(a.mean()) == pytest.approx(float(b.mean()), abs=0.01 * float(b.std()))
        assert float(a.std()) == pytest.approx(float(b.std()), rel=0.01)
    alone = edit_image(x[1:], edit)
    torch.testing.assert_close(y[1:], alone)  # a window is its own, whatever it is asked with
    assert not torch.allclose(y.double(), x.double(), atol=0.02 * float(x.double().std()))


@pytest.mark.parametrize("dims", [2, 3])
def test_sharper_is_sharper_and_softer_softer(dims):
    x = ramp(dims)
    assert edge(edit_image(x, "softer")) < 0.8 * edge(x) < edge(x) < 0.9 * edge(edit_image(x, "sharper"))


def test_brighter_and_darker_move_the_middle_tones():
    x = torch.linspace(0, 1, 101).view(1, 1, 1, -1).expand(1, 1, 4, -1)
    bright, dark = ((edit_image(x, edit) - x).flatten() for edit in ("brighter", "darker"))
    # The mean is kept, so that what rises in the middle falls at both ends, and the other edit round.
    assert bright[50] > 0 > dark[50] and bright[0] < 0 < dark[0]


def test_constant_windows_stay():
    x = torch.full((1, 1, 8, 8), 3.0)
    for edit in EDITS:
        torch.testing.assert_close(edit_image(x, edit), x)


@pytest.mark.parametrize("edit", EDITS)
def test_the_answer_is_the_source_s_for_the_edited_window(edit):
    net, x = network("instance"), image(size=8)
    torch.testing.assert_close(
        run(net, ImageEdit(edit=edit), x, head="softmax")[0], net(edit_image(x, edit)), rtol=1e-4, atol=1e-5
    )


def test_an_unknown_edit_is_refused():
    with pytest.raises(ValueError, match="sharper, softer, brighter, darker, found 'magic'"):
        ImageEdit(edit="magic")
