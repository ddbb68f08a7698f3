"""The look of a source's images in a few numbers, and images moved towards it, by hand."""

import math

import numpy as np
import pytest
import torch

from monai_tta.core.source_look import (
    BANDS,
    SourceLook,
    backgrounds_of,
    body_of,
    look_of,
    mean_look,
    with_amplitudes,
    with_moments,
)


def head(seed=0, dims=2, size=64):
    """Noise around 3 in a ball, in two channels, and a background of -1 with a little noise in it."""
    rng = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size)] * dims, indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.6
    x = torch.randn(1, 2, *[size] * dims, generator=rng) * 0.5 + 3
    return torch.where(ball, x, -1 + 0.01 * torch.randn(x.shape, generator=rng)), ball


class TestBody:
    @pytest.mark.parametrize("dims, size", [(2, 64), (3, 20)])
    def test_it_is_what_is_not_background(self, dims, size):
        x, ball = head(dims=dims, size=size)
        assert torch.equal(body_of(x, backgrounds_of(x))[0, 0], ball)

    def test_without_a_background_all_is_body(self):
        x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        assert backgrounds_of(x) == (None,) and bool(body_of(x, backgrounds_of(x)).all())
        flat = torch.ones(1, 1, 8, 8)
        assert backgrounds_of(flat) == (None,) and bool(body_of(flat, backgrounds_of(flat)).all())

    def test_a_window_of_nothing_but_background_is_left_whole(self):
        """Otherwise figures of a few stray voxels would stand for the image."""
        x = torch.zeros(1, 1, 20, 20)
        x[..., 0, 0] = 1
        assert bool(body_of(x, backgrounds_of(x)).all())


class TestLook:
    def test_moments_are_those_inside_the_body(self):
        x, ball = head()
        look = look_of(x, backgrounds_of(x))
        for channel in range(2):
            inside = x[0, channel][ball].numpy().astype(np.float64)
            assert look.means[channel] == pytest.approx(inside.mean(), rel=1e-5)
            assert look.stds[channel] == pytest.approx(inside.std(), rel=1e-4)

    def test_the_amplitude_of_a_wave_is_in_its_band(self):
        """3 cos(2 pi k x / 64) has two components of 3 / 2 * 64 of the 64 of its row: |F| / sqrt(64^2) = 3 / 2 * 64."""
        wave = 3 * torch.cos(2 * math.pi * 5 * torch.arange(64) / 64).expand(1, 1, 64, 64)  # 5/64: in the fifth band
        (found,) = look_of(wave, (None,)).amplitudes
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
        components = ((frequency > BANDS[4]) & (frequency <= BANDS[5])).sum()
        assert found[4] == pytest.approx(2 * 3 / 2 * 64 / components, rel=1e-4)
        assert max(found[k] for k in (0, 1, 2, 3, 5)) < 1e-4

    def test_small_windows_lack_low_bands(self):
        x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        (found,) = look_of(x, (None,)).amplitudes
        assert found[:3] == (-1.0, -1.0, -1.0) and found[3] > 0

    def test_the_mean_of_looks_takes_bands_from_those_that_have_them(self):
        rows = [(-1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (-1.0, 4.0, -1.0, 1.0, 1.0, 1.0)]
        looks = [SourceLook((1.0 + 2 * k,), (2.0,), (row,)) for k, row in enumerate(rows)]
        assert mean_look(looks) == SourceLook((2.0,), (2.0,), ((-1.0, 3.0, 1.0, 1.0, 1.0, 1.0),))

    def test_it_is_read_back_and_nonsense_is_refused(self):
        x, _ = head()
        look = look_of(x, backgrounds_of(x))
        said = look.to_dict()
        assert SourceLook.from_dict(said) == look
        for wrong in ({"means": [1.0]}, {"stds": [math.nan, 1.0]}, {"amplitudes": [[1.0], [1.0]]}):
            with pytest.raises(ValueError, match="figures"):
                SourceLook.from_dict(said | wrong)


class TestMoved:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
    def test_half_way_is_half_way_and_the_background_stays(self, dtype):
        x, ball = head()
        x = x.to(dtype)
        backgrounds = backgrounds_of(x)
        body = body_of(x, backgrounds)
        own = look_of(x, backgrounds)
        source = SourceLook((5.0, 1.0), (1.5, 0.1), own.amplitudes)
        moved = with_moments(x, body, own, source, 0.5)
        assert moved.dtype == dtype and torch.equal(moved[..., ~ball], x[..., ~ball])
        for channel in range(2):
            inside = moved[0, channel][ball].double()
            assert float(inside.mean()) == pytest.approx((own.means[channel] + source.means[channel]) / 2, abs=1e-3)
            assert float(inside.std()) == pytest.approx((own.stds[channel] + source.stds[channel]) / 2, rel=5e-3)

    def test_a_constant_channel_gets_another_mean_and_no_infinities(self):
        x = torch.full((1, 1, 8, 8), 2.0)
        moved = with_moments(
            x, torch.ones(1, 1, 8, 8, dtype=torch.bool), SourceLook((2.0,), (0.0,), ()), SourceLook((4.0,), (1.0,), ()), 0.5
        )
        assert torch.equal(moved, torch.full((1, 1, 8, 8), 3.0))

    def test_a_low_wave_grows_by_the_root_of_the_ratio_and_a_high_one_stays(self):
        everywhere = torch.ones(1, 1, 64, 64, dtype=torch.bool)
        x = torch.arange(64)
        low = torch.cos(2 * math.pi * 3 * x / 64 + 0.4).expand(1, 1, 64, 64)
        high = torch.cos(2 * math.pi * 12 * x / 64).expand(1, 1, 64, 64)
        own = SourceLook((7.0,), (1.0,), ((1.0,) * 6,))
        source = SourceLook((7.0,), (1.0,), ((4.0,) * 6,))
        moved = with_amplitudes(7 + low + high, everywhere, own, source, 0.5)
        torch.testing.assert_close(moved, 7 + 2 * low + high, rtol=1e-4, atol=1e-4)

    def test_what_is_already_alike_stays(self):
        x, _ = head()
        backgrounds = backgrounds_of(x)
        own = look_of(x, backgrounds)
        for change in (with_moments, with_amplitudes):
            torch.testing.assert_close(change(x, body_of(x, backgrounds), own, own, 0.5), x, rtol=1e-4, atol=1e-4)

    def test_the_background_stays_where_frequencies_change(self):
        x, ball = head()
        backgrounds = backgrounds_of(x)
        own = look_of(x, backgrounds)
        source = SourceLook(own.means, own.stds, ((9.0,) * 6, (9.0,) * 6))
        moved = with_amplitudes(x, body_of(x, backgrounds), own, source, 0.5)
        torch.testing.assert_close(moved[..., ~ball], x[..., ~ball])
        assert float((moved - x)[..., ball].abs().max()) > 0.1
