"""Whose statistics: normalisation layers that can use the source's memory, the present window's, or the volume's.

A BatchNorm or InstanceNorm layer becomes a `AdaptiveNorm` *inside a shadow*; the source network keeps its own.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from monai_tta.compute.layer_mixins import FastKernels, takes_gradient, with_mixin

StatisticsFrom = Literal["source", "window", "volume"]
_STOCK = {_BatchNorm.forward, nn.SyncBatchNorm.forward, _InstanceNorm.forward, nn.GroupNorm.forward}


class TooFewVoxels(ValueError):
    """A layer saw one value per channel, from which no statistics can be taken."""


def with_statistics(module: nn.Module, statistics: StatisticsFrom, blend: float, name: str = "") -> nn.Module:
    """Turn each Batch- and InstanceNorm of a network, in place, into the same layer with a choice of statistics (and each
    GroupNorm into one that is safe to learn).

    Everything else about a layer stays: its type's other behaviour, hooks, parametrizations, attributes. A subclass with
    a ``forward`` of its own keeps it, and gets the present's statistics where it calls ``super().forward``.

    Args:
        module: a private copy of a network, or one layer.
        statistics: see `AdaptiveNorm`.
        blend: see `AdaptiveNorm`.
        name: what errors call the network; layers are named below it.

    Returns:
        the same module.
    """
    for path, layer in module.named_modules():
        made: Any = layer
        kind: Any = type(layer)
        if isinstance(layer, nn.GroupNorm):
            made.__class__ = with_mixin(kind, SafeGroupNorm, kind.forward in _STOCK)
        if isinstance(layer, _BatchNorm | _InstanceNorm):
            mine = AdaptiveBatchNorm if isinstance(layer, _BatchNorm) else AdaptiveInstanceNorm
            made.__class__ = with_mixin(kind, mine, kind.forward in _STOCK)
            made.name, made.blend = ".".join(part for part in (name, path) if part), blend
            made.has_running_stats = made.running_mean is not None
            made.statistics = statistics if made.has_running_stats else "window"
    return module


def has_running_stats(module: nn.Module) -> bool:
    """Whether a network has a normalisation layer with the source's statistics in memory."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm | _InstanceNorm)]
    return any(m.running_mean is not None for m in layers)


class AdaptiveNorm(FastKernels, _NormBase):
    """Normalise features ``(N, C, *spatial)`` by the source's, each window's own, or the volume's pooled statistics.

    ``blend`` b in [0, 1] mixes means and variances: ``(1 - b) * source + b * present`` (alpha-BN; You et al. 2021).
    Variances are the biased ones, as BatchNorm normalises with. A layer without memory (InstanceNorm, or BatchNorm
    with ``track_running_stats=False``) always uses each window's own. `with_statistics` makes these.

    Raises:
        TooFewVoxels: when present statistics are asked of one voxel per channel.
    """

    name: str
    blend: float
    has_running_stats: bool
    statistics: StatisticsFrom
    pooled: tuple[Tensor, Tensor] | None = None
    pooling: bool = False

    def attach(self, like: Tensor) -> bool:
        """Put a scale of one and a shift of zero (dtype and device of ``like``) on a layer that has neither.

        Returns:
            whether it had neither.
        """
        if self.weight is not None or self.bias is not None:
            return False
        self.weight = nn.Parameter(torch.ones(self.num_features, dtype=like.dtype, device=like.device))
        self.bias = nn.Parameter(torch.zeros(self.num_features, dtype=like.dtype, device=like.device))
        return True

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised, scaled and shifted features, in the shape and dtype of ``x``."""
        if self.statistics == "source" or (self.statistics == "volume" and self.pooled is None and not self.pooling):
            return self._fixed(x, self.running_mean, self.running_var)
        if self.statistics == "volume":
            if self.pooling:
                self.pooled = self._mixed(*self._moments(x, pool=True))
            assert self.pooled is not None
            return self._fixed(x, *self.pooled)
        if not self.has_running_stats or self.blend == 1:
            return self._own(x)
        mean, var = self._mixed(*self._moments(x, pool=False))
        return self._scaled(x, mean, var)

    def _moments(self, x: Tensor, pool: bool) -> tuple[Tensor, Tensor]:
        """Mean and biased variance per channel: ``(C,)`` over all windows, or ``(N, C)`` window by window."""
        self._demand(x, x.numel() // x.shape[1] if pool else x[0, 0].numel())
        if self._slow(x) and not takes_gradient(x):
            mean, var = self._quickly(x)
            return (mean.mean(0), var.mean(0) + mean.var(0, correction=0)) if pool else (mean, var)
        axes = [0, *range(2, x.ndim)] if pool else list(range(2, x.ndim))
        var, mean = torch.var_mean(x if x.dtype == torch.float64 else x.float(), axes, correction=0)
        return mean, var

    def _quickly(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance ``(N, C)`` as torch's normalisations note them, by which no gradient can be taken: on a CPU
        a fifteenth of `torch.var_mean`'s time where channels lie last, a twentieth where they don't."""
        n, c = x.shape[:2]
        ones = torch.ones(c, dtype=x.dtype if x.dtype == torch.float64 else torch.float32)  # half-width moments otherwise
        if _channels_last(x):
            each = [torch.native_batch_norm(one, ones, ones, None, None, True, 0.0, self.eps)[1:] for one in x.split(1)]
            mean, rise = (torch.stack(some) for some in zip(*each, strict=True))
        else:
            _, mean, rise = torch.native_group_norm(_lined_up(x), ones, ones, n, c, x[0, 0].numel(), c, self.eps)
        return mean, (rise**-2 - self.eps).clamp_min(0)

    def _slow(self, x: Tensor) -> bool:
        """Whether torch's usual way to moments is slow on the device of these features, and another will do."""
        return self.use_fast and x.device.type == "cpu"

    def distance(self, x: Tensor) -> float:
        """How far these features' statistics are from the source's, in its standard deviations: the mean over channels of
        ``|m - m_s| / s_s + |log(s / s_s)|``; 0 is as the source was. NaN for a layer without memory."""
        if self.running_mean is None or self.running_var is None:
            return float("nan")
        mean, var = self._moments(x, pool=True)
        scale = (self.running_var + self.eps).sqrt()
        moved = (mean - self.running_mean).abs() / scale
        return float((moved + 0.5 * ((var + self.eps) / (self.running_var + self.eps)).log().abs()).mean())

    def _mixed(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Blend present statistics with the source's memory."""
        b = self.blend
        assert self.running_mean is not None and self.running_var is not None
        return (1 - b) * self.running_mean + b * mean, (1 - b) * self.running_var + b * var

    def _fixed(self, x: Tensor, mean: Tensor | None, var: Tensor | None) -> Tensor:
        """The usual evaluation-mode normalisation with one set of statistics for all windows."""
        assert mean is not None and var is not None and self.running_mean is not None
        kept = self.running_mean.dtype  # batch_norm wants statistics in the precision of the weights
        return F.batch_norm(x, mean.to(kept), var.to(kept), self.weight, self.bias, False, 0.0, self.eps)

    def _own(self, x: Tensor) -> Tensor:
        """Each window by itself. On a CPU a group of one channel is normalised five times as fast as a batch of one window where
        voxels of a channel lie together, but not exactly enough where channels lie last. Elsewhere, windows folded into channels
        keep apart; voxels are folded into one axis because torch's kernels give wrong gradients when those of one window come
        back channels-last."""
        self._demand(x, x[0, 0].numel())
        n, c = x.shape[:2]
        if _channels_last(x):
            own = [F.batch_norm(one, None, None, self.weight, self.bias, True, 0.0, self.eps) for one in x.split(1)]
            return own[0] if n == 1 else torch.cat(own)
        if self._slow(x):
            return F.group_norm(_lined_up(x), c, self.weight, self.bias, self.eps).view(x.shape)
        flat = x.reshape(1, n * c, -1)
        weight = None if self.weight is None else self.weight.repeat(n)
        bias = None if self.bias is None else self.bias.repeat(n)
        return F.batch_norm(flat, None, None, weight, bias, True, 0.0, self.eps).reshape(x.shape)

    def _scaled(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """Normalise window by window with ``(N, C)`` statistics."""
        shape = (*mean.shape, *[1] * (x.ndim - 2))
        out = (x - mean.view(shape)) / (var.view(shape) + self.eps).sqrt()
        if self.weight is not None:
            affine = (1, -1, *[1] * (x.ndim - 2))
            out = out * self.weight.view(affine)
            out = out if self.bias is None else out + self.bias.view(affine)
        return out.to(x.dtype)

    def _demand(self, x: Tensor, count: int) -> None:
        if count < 2:
            raise TooFewVoxels(
                f"layer {self.name!r} sees one voxel per channel (features {tuple(x.shape)}): a window gives no statistics "
                "there; choose statistics='source' or 'volume', or a larger roi_size"
            )


def _channels_last(x: Tensor) -> bool:
    """Whether voxels lie beside their channels in memory, and not (also) channel by channel."""
    kind = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return kind is not None and not x.is_contiguous() and x.is_contiguous(memory_format=kind)


def _lined_up(x: Tensor) -> Tensor:
    """Features ``(N, C, voxels)``, a channel's voxels side by side: with more axes, torch 2.13 may take a single channel for one
    that lies last, and normalises it number by number."""
    return x.contiguous().flatten(2)


class AdaptiveBatchNorm(AdaptiveNorm, _BatchNorm):
    """A BatchNorm of any dimension with a choice of statistics."""


class AdaptiveInstanceNorm(AdaptiveNorm, _InstanceNorm):
    """An InstanceNorm of any dimension with a choice of statistics, where it remembers any."""


class SafeGroupNorm(nn.GroupNorm):
    """A GroupNorm that can learn behind frozen layers whatever the memory layout: torch 2.13 on a CPU crashes (a segmentation
    fault) in the gradient of scale and shift when channels lie last and the features themselves take no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """The same normalisation, of features stored channel by channel where no gradient goes further down."""
        return super().forward(x if x.requires_grad else x.contiguous())
