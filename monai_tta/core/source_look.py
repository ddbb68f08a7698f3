"""What a source's images look like to its network, in a few numbers, and images moved towards it.

Two things are compared inside the body, which is all that does not have the background's value: each channel's mean and standard
deviation, and the amplitude of its low spatial frequencies. Both are of windows on the network's own grid, so frequencies are in
cycles per voxel of that grid; where a bundle resamples to a fixed voxel size, they are physical ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.precision import at_least_float32

__all__ = ["SourceLook"]

BANDS = (0.0, 1 / 64, 1 / 32, 3 / 64, 1 / 16, 3 / 32, 1 / 8)  # cycles per voxel: edges of bands of the radial frequency
BACKGROUND_SHARE = 0.2  # a range of values of one fiftieth of all that holds more of the voxels than this is background
_BINS = 50
_LEAST_BODY = 0.05  # of the voxels; with less, everything is body
_TINY = 1e-6

Background = tuple[float, float] | None  # the values that are background, from the first to the second


@dataclass(frozen=True)
class SourceLook:
    """The look of images, for each channel. A value: it holds a few dozen numbers and nothing of a single image.

    Args:
        means: inside the body, in the network's units.
        stds: standard deviations inside the body.
        amplitudes: for each band of `BANDS`, the mean amplitude of what deviates from the mean, ``|F| / sqrt(voxels)``; -1 for a
            band in which the windows have no frequency.
    """

    means: tuple[float, ...]
    stds: tuple[float, ...]
    amplitudes: tuple[tuple[float, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> SourceLook:
        """Read `to_dict` back.

        Args:
            said: what it returned.

        Raises:
            ValueError: for figures that do not fit each other, or are not finite.
        """
        means, stds = (tuple(float(value) for value in said[name]) for name in ("means", "stds"))
        amplitudes = tuple(tuple(float(value) for value in channel) for channel in said["amplitudes"])
        numbers = torch.tensor([*means, *stds, *(value for channel in amplitudes for value in channel)])
        if not len(means) == len(stds) == len(amplitudes) or any(len(channel) != len(BANDS) - 1 for channel in amplitudes):
            raise ValueError("the figures of the source's images do not fit each other")
        if not bool(numbers.isfinite().all()):
            raise ValueError("the figures of the source's images are not finite")
        return cls(means, stds, amplitudes)


def mean_look(looks: Sequence[SourceLook]) -> SourceLook:
    """The mean over images. A band counts where an image has it."""
    numbers = torch.tensor([look.amplitudes for look in looks], dtype=torch.float64)
    is_there = numbers >= 0
    total = torch.where(is_there, numbers, 0.0).sum(0) / is_there.sum(0).clamp(min=1)
    amplitudes = torch.where(is_there.any(0), total, -1.0)
    means, stds = (torch.tensor([getattr(look, name) for look in looks]).mean(0).tolist() for name in ("means", "stds"))
    return SourceLook(tuple(means), tuple(stds), tuple(map(tuple, amplitudes.tolist())))


@torch.no_grad()
def backgrounds_of(windows: Tensor) -> tuple[Background, ...]:
    """Each channel's background values in windows ``(N, C, *spatial)``: one fiftieth of the range, if it holds many voxels."""
    found: list[Background] = []
    for channel in at_least_float32(windows).transpose(0, 1).flatten(1):
        low, high = (float(value) for value in channel.aminmax())
        width = (high - low) / _BINS
        if not width > 0:
            found.append(None)
            continue
        counts = torch.histc(channel, _BINS, low, high)
        most = int(counts.argmax())
        is_background = float(counts[most]) > BACKGROUND_SHARE * channel.numel()
        found.append((low + (most - 0.5) * width, low + (most + 1.5) * width) if is_background else None)
    return tuple(found)


@torch.no_grad()
def body_of(windows: Tensor, backgrounds: Sequence[Background]) -> Tensor:
    """The body in windows ``(N, C, *spatial)``: where some channel is not background, ``(N, 1, *spatial)``."""
    outside = torch.ones_like(windows[:, :1], dtype=torch.bool)
    for number, values in enumerate(backgrounds):
        channel = windows[:, number : number + 1]
        outside &= torch.zeros_like(outside) if values is None else (channel >= values[0]) & (channel <= values[1])
    body = ~outside
    return body if float(body.float().mean()) >= _LEAST_BODY else torch.ones_like(body)


@torch.no_grad()
def look_of(windows: Tensor, backgrounds: Sequence[Background]) -> SourceLook:
    """The look of windows ``(N, C, *spatial)``, all of one image."""
    body = body_of(windows, backgrounds)
    n_voxels = body.sum().clamp(min=1)
    dims = (0, *range(2, windows.ndim))
    exact = at_least_float32(windows)
    means = torch.where(body, exact, 0.0).sum(dims) / n_voxels
    deviation = _deviation(exact, body, means)
    stds = ((deviation**2).sum(dims) / n_voxels).sqrt()
    amplitude = torch.fft.fftn(deviation, dim=_spatial(windows)).abs().mean(0) / windows[0, 0].numel() ** 0.5
    band = torch.bucketize(radial_frequency(windows.shape[2:], windows.device), torch.tensor(BANDS, device=windows.device))
    rows = [
        tuple(float(channel[band == k].mean()) if bool((band == k).any()) else -1.0 for k in range(1, len(BANDS)))
        for channel in amplitude
    ]
    return SourceLook(tuple(means.tolist()), tuple(stds.tolist()), tuple(rows))


@torch.no_grad()
def with_moments(windows: Tensor, body: Tensor, own: SourceLook, source: SourceLook, share: float) -> Tensor:
    """Windows whose channels' means and standard deviations inside the body are moved by ``share`` of the way to the source's.

    Args:
        windows: ``(N, C, *spatial)``.
        body: ``(N, 1, *spatial)``; outside of it nothing changes.
        own: the look of the image.
        source: the look to move to.
        share: of the way, 0 to 1.
    """
    exact = at_least_float32(windows)
    shape = (1, -1, *[1] * (windows.ndim - 2))
    means, to_means, stds, to_stds = (
        torch.tensor(values, dtype=exact.dtype, device=windows.device).view(shape)
        for values in (own.means, source.means, own.stds, source.stds)
    )
    scale = torch.where(stds > _TINY, (stds + share * (to_stds - stds)) / stds.clamp(min=_TINY), 1.0)
    moved = (exact - means) * scale + means + share * (to_means - means)
    return torch.where(body, moved, exact).to(windows.dtype)


@torch.no_grad()
def with_amplitudes(windows: Tensor, body: Tensor, own: SourceLook, source: SourceLook, share: float) -> Tensor:
    """Windows whose low frequencies' amplitudes are moved by ``share`` of the way, as a power, to the source's; phases stay.

    Arguments are those of `with_moments`. The mean inside the body stays, and so does all that is outside of it.
    """
    exact = at_least_float32(windows)
    means = torch.tensor(own.means, dtype=exact.dtype, device=windows.device)
    deviation = _deviation(exact, body, means)
    frequency = radial_frequency(windows.shape[2:], windows.device)
    factors = torch.stack(
        [_factor(frequency, mine, theirs, share) for mine, theirs in zip(own.amplitudes, source.amplitudes, strict=True)]
    )
    spectrum = torch.fft.fftn(deviation, dim=_spatial(windows)) * factors
    moved = torch.fft.ifftn(spectrum, dim=_spatial(windows)).real
    return torch.where(body, moved + (exact - deviation), exact).to(windows.dtype)


def radial_frequency(size: Sequence[int], device: torch.device | None = None) -> Tensor:
    """The radial spatial frequency of each component of a Fourier transform of this size, in cycles per voxel."""
    axes = torch.meshgrid(*[torch.fft.fftfreq(n, device=device) for n in size], indexing="ij")
    return torch.stack([axis**2 for axis in axes]).sum(0).sqrt()


def _factor(frequency: Tensor, own: Sequence[float], source: Sequence[float], share: float) -> Tensor:
    """What each component's amplitude is multiplied by: between bands' middles a straight line, 1 at zero and above the bands."""
    points = [(0.0, 1.0)]
    for low, high, mine, theirs in zip(BANDS[:-1], BANDS[1:], own, source, strict=True):
        if mine > _TINY and theirs >= 0:
            points.append(((low + high) / 2, max(theirs / mine, _TINY) ** share))
    points.append((BANDS[-1], 1.0))
    x = torch.tensor([point for point, _ in points], device=frequency.device)
    y = torch.tensor([value for _, value in points], device=frequency.device)
    right = torch.bucketize(frequency, x).clamp(1, len(x) - 1)
    part = ((frequency - x[right - 1]) / (x[right] - x[right - 1])).clamp(0, 1)
    factor = y[right - 1] + part * (y[right] - y[right - 1])
    return torch.where(frequency > 0, factor, torch.ones_like(factor))


def _deviation(windows: Tensor, body: Tensor, means: Tensor) -> Tensor:
    """What deviates from the channel's mean inside the body; 0 outside."""
    return torch.where(body, windows - means.view(1, -1, *[1] * (windows.ndim - 2)), 0.0)


def _spatial(windows: Tensor) -> tuple[int, ...]:
    return tuple(range(2, windows.ndim))
