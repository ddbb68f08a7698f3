"""Views are undone exactly. Restyling keeps what it promises and is repeated by its seed."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta.core.restyling import Restyling
from monai_tta.core.views import View, Views

SHAPES = st.sampled_from([(4, 4), (3, 5), (4, 4, 4), (3, 4, 4), (2, 3, 4)])


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, mirrors=st.sampled_from(["axes", "all"]), turns=st.sampled_from([None, True, False]))
def test_views_differ_and_are_undone_exactly(shape, mirrors, turns):
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    views = Views(mirrors=mirrors, turns=turns).of(shape)
    seen = []
    for view in views:
        posed = view.apply(x)
        assert posed.shape == x.shape and torch.equal(view.undo(posed), x)
        seen.append(tuple(posed.flatten().tolist()))
    assert views[0] == View() and torch.equal(views[0].apply(x), x)
    if not turns and turns is not None:
        assert len(set(seen)) == len(seen)


def test_the_number_of_views():
    assert len(Views().of((8, 8))) == 6 and len(Views().of((8, 6))) == 4
    assert len(Views().of((8, 8, 8))) == 4 and len(Views(mirrors="all").of((8, 8, 8))) == 8
    assert Views(axes=(2,)).of((8, 8, 8)) == [View(), View(mirrors=(2,))]
    assert len(Views(mirrors="all", axes=(0, 2)).of((8, 8, 8))) == 4
    with pytest.raises(ValueError, match=r"axes=\(2,\) of views do not fit windows of shape \(8, 8\)"):
        Views(axes=(2,)).of((8, 8))
    assert len(Views(turns=True).of((8, 8, 6))) == 4 + 3 + 1 + 1


@settings(max_examples=25, deadline=None)
@given(
    style=st.sampled_from(["fundus", "mri", "ct"]), seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(12, 10), (7, 8, 9)])
)
def test_restyling_keeps_what_it_promises(style, seed, shape):
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    before_x = x.clone()
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    restyling = Restyling(style)
    out = restyling(x, [seed, (seed + 1) % 2**32])
    assert out.shape == x.shape and out.dtype == x.dtype and out.isfinite().all()
    assert torch.equal(out, restyling(x, [seed, (seed + 1) % 2**32])) and torch.equal(x, before_x)
    assert torch.equal(out[1:], restyling(x[1:], [(seed + 1) % 2**32]))
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()
    for before, after in zip(x, out, strict=True):
        if style == "mri":
            torch.testing.assert_close(after.mean(), before.mean(), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(after.std(), before.std(), rtol=1e-3, atol=1e-4)
        elif style == "ct":
            assert after.min() >= before.min() and after.max() <= before.max()
        else:
            assert after.min() == 0 and after.max() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("style", ["fundus", "mri", "ct"])
def test_restyling_differs_from_seed_to_seed(style):
    x = torch.rand(1, 1, 10, 10, generator=torch.Generator().manual_seed(1))
    assert len({tuple(Restyling(style)(x, [s]).flatten().tolist()) for s in range(8)}) > 4


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="found 'xray'"):
        Restyling("xray")


@pytest.mark.parametrize(("channels", "scale", "style"), [(3, 1, "fundus"), (1, 1, "ct"), (3, 2, "mri"), (1, -1, "mri")])
def test_auto_chooses_the_style_by_channels_and_range(channels, scale, style):
    x = scale * torch.rand(1, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Restyling()(x, [7]), Restyling(style)(x, [7]))
    if channels == 3 and scale == 1:
        assert not torch.equal(Restyling()(x, [7]), Restyling("ct")(x, [7]))
