"""Image edits: what each one changes, and what stays."""

import pytest
import torch

from monai_tta import ImageEdit
from monai_tta.core.image_edits import EDITS, edit_image
from tests.small import image, network, run


def ramp(dims):
    """A step edge and a gentle ramp across it, in HU."""
    x = torch.zeros(1, 1, *[16] * dims)
    x[..., 8:] = 600.0
    return x + torch.linspace(-200, 200, 16).view([16] + [1] * (dims - 1))


def sharpness(x):
    """The largest step between neighbours along the last axis, in standard deviations."""
    return float(x.diff(dim=-1).abs().max() / x.std())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_mean_and_standard_deviation_stay(dims, edit, dtype):
    x = torch.cat([ramp(dims), 2 * ramp(dims) + 50]).to(dtype)
    before = x.clone()
    y = edit_image(x, edit)
    assert torch.equal(x, before) and y.dtype == dtype and y.shape == x.shape and type(y) is torch.Tensor
    for a, b in zip(y.double(), x.double(), strict=True):
        assert float(a.mean()) == pytest.approx(float(b.mean()), abs=0.01 * float(b.std()))
        assert float(a.std()) == pytest.approx(float(b.std()), rel=0.01)
    alone = edit_image(x[1:], edit)
    torch.testing.assert_close(y[1:], alone)  # a window does not depend on the others in its batch
    assert not torch.allclose(y.double(), x.double(), atol=0.02 * float(x.double().std()))


@pytest.mark.parametrize("dims", [2, 3])
def test_sharper_sharpens_edges_and_softer_blurs_them(dims):
    x = ramp(dims)
    assert sharpness(edit_image(x, "softer")) < 0.8 * sharpness(x) < sharpness(x) < 0.9 * sharpness(edit_image(x, "sharper"))


def test_brighter_raises_the_middle_tones_and_darker_lowers_them():
    x = torch.linspace(0, 1, 101).view(1, 1, 1, -1).expand(1, 1, 4, -1)
    brighter, darker = ((edit_image(x, edit) - x).flatten() for edit in ("brighter", "darker"))
    # The mean stays, so the lowest intensities move the other way.
    assert brighter[50] > 0 > darker[50] and brighter[0] < 0 < darker[0]


def test_constant_windows_are_unchanged():
    x = torch.full((1, 1, 8, 8), 3.0)
    for edit in EDITS:
        torch.testing.assert_close(edit_image(x, edit), x)


@pytest.mark.parametrize("edit", EDITS)
def test_the_answer_is_the_source_networks_answer_for_the_edited_window(edit):
    net = network("instance")
    x = image(size=8)
    answer, _ = run(net, ImageEdit(edit=edit), x, head="softmax")
    torch.testing.assert_close(answer, net(edit_image(x, edit)), rtol=1e-4, atol=1e-5)


def test_an_unknown_edit_is_refused():
    with pytest.raises(ValueError, match="sharper, softer, brighter, darker, found 'magic'"):
        ImageEdit(edit="magic")
