"""Normalisation layers that can use the source's running statistics, each window's own, or statistics pooled over a volume.

A BatchNorm or InstanceNorm layer becomes an `AdaptiveNorm` inside a shadow. The source network keeps its own layers.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from monai_tta.compute.layer_mixins import FastKernels, SafeGroupNorm, takes_gradient, with_mixin
from monai_tta.core.errors import TooFewVoxels
from monai_tta.core.norm_uses import CountsUses

StatisticsFrom = Literal["source", "window", "volume"]
_STOCK_FORWARDS = {_BatchNorm.forward, nn.SyncBatchNorm.forward, _InstanceNorm.forward, nn.GroupNorm.forward}


def with_statistics(module: nn.Module, statistics: StatisticsFrom, blend: float, name: str = "") -> nn.Module:
    """Give each BatchNorm and InstanceNorm of a network, in place, a choice of statistics; make each GroupNorm safe to learn.

    A layer's type changes and everything else about it stays: other behaviour of its type, hooks, parametrizations, attributes. A
    subclass with a ``forward`` of its own keeps that, and gets the chosen statistics where it calls ``super().forward``.

    Args:
        module: a private copy of a network, or one layer.
        statistics: see `AdaptiveNorm`.
        blend: see `AdaptiveNorm`.
        name: what error messages call the network; a layer's own name is added to it.

    Returns:
        the same module.
    """
    for path, layer in module.named_modules():
        made: Any = layer  # the same object, whose type is about to change
        kind: Any = type(layer)
        if isinstance(layer, nn.GroupNorm):
            made.__class__ = with_mixin(kind, SafeGroupNorm, kind.forward in _STOCK_FORWARDS)
        if isinstance(layer, _BatchNorm | _InstanceNorm):
            mixin = AdaptiveBatchNorm if isinstance(layer, _BatchNorm) else AdaptiveInstanceNorm
            made.__class__ = with_mixin(kind, mixin, kind.forward in _STOCK_FORWARDS)
            made.name = ".".join(part for part in (name, path) if part)
            made.blend = blend
            made.has_running_stats = made.running_mean is not None
            made.statistics = statistics if made.has_running_stats else "window"
    return module


def has_running_stats(module: nn.Module) -> bool:
    """Whether any normalisation layer of a network keeps running statistics from its training."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm | _InstanceNorm)]
    return any(layer.running_mean is not None for layer in layers)


class AdaptiveNorm(CountsUses, FastKernels, _NormBase):
    """Normalise features ``(N, C, *spatial)`` with a choice of statistics. `with_statistics` makes these layers.

    Where it sees one voxel per channel (behind a global pooling), it keeps the source's statistics: one value has no variance.

    Attributes, besides those of `CountsUses`:
        statistics: "source" for the running statistics; "window" for those of each window; "volume" for those that were pooled
            over windows while ``pooling`` was set, and the running ones until then. A layer without running statistics
            (InstanceNorm, or BatchNorm with ``track_running_stats=False``) always has "window".
        blend: b in [0, 1] of ``(1 - b) * source + b * present``, which mixes the means and variances of "window" and "volume"
            with the running ones (alpha-BN; You et al. 2021, arXiv 2110.04065). Variances are biased ones, as in BatchNorm.
        correction: 0 for biased present variances, as in BatchNorm's forward pass; 1 for unbiased ones, as in VPTTA's code.
        detached: whether present statistics count as constants, so that no gradient passes through them.

    Raises:
        TooFewVoxels: when statistics of one voxel per channel are needed, and there are none of the source.
    """

    blend: float
    statistics: StatisticsFrom
    correction: int = 0
    detached: bool = False

    def attach_affine(self, like: Tensor) -> bool:
        """Put a scale of one and a shift of zero on a layer that has neither, with the dtype and device of ``like``.

        Returns:
            whether the layer had neither.
        """
        if self.weight is not None or self.bias is not None:
            return False
        self.weight = nn.Parameter(torch.ones(self.num_features, dtype=like.dtype, device=like.device))
        self.bias = nn.Parameter(torch.zeros(self.num_features, dtype=like.dtype, device=like.device))
        return True

    def forward(self, x: Tensor) -> Tensor:
        """The normalised, scaled and shifted features, in the shape and dtype of ``x``."""
        use = self.count_use()
        if self.statistics == "source" or (self.statistics == "volume" and not self.pooled and not self.pooling):
            return self._normalize_all_with(x, self.running_mean, self.running_var)
        keeps_source = self.keeps_source(x)
        self.kept_source |= keeps_source
        if self.statistics == "volume" and self.pooling:
            self.keep_pooled(use, None if keeps_source else self._blended(*self._moments(x, pool=True)))
        if self.statistics == "volume" or keeps_source:
            present = None if keeps_source else self.pooled_for(use)
            return self._normalize_all_with(x, *(present or (self.running_mean, self.running_var)))
        if not self.has_running_stats or (self.blend == 1 and not self.correction and not self.detached):
            return self._normalize_each(x)
        mean, var = self._blended(*self._moments(x.detach() if self.detached else x, pool=False))
        return self._normalize_each_with(x, mean, var)

    @torch.no_grad()
    def statistics_of(self, x: Tensor, use: int = 0) -> tuple[Tensor, Tensor]:
        """Mean and variance by which `forward` normalises features ``(N, C, *spatial)``; for layers with running statistics.

        Args:
            x: the features, of more than one voxel per channel.
            use: the number of the layer's use in the pass.

        Returns:
            two tensors ``(N, C)`` for statistics="window", else ``(C,)``.
        """
        if self.statistics == "window":
            return self._blended(*self._moments(x, pool=False))
        if self.statistics == "volume" and self.pooled and (pooled := self.pooled_for(max(use, 0))) is not None:
            return pooled
        assert self.running_mean is not None and self.running_var is not None
        return self.running_mean, self.running_var

    def distance(self, x: Tensor) -> float:
        """How far the pooled statistics of features ``(N, C, *spatial)`` are from the source's.

        Returns:
            the mean over channels of ``|m - m0| / s0 + |log(s / s0)|``, for mean m and standard deviation s of the features, m0
            and s0 of the source. 0 or more; 0 where they are equal. NaN for a layer without running statistics.
        """
        if self.running_mean is None or self.running_var is None:
            return float("nan")
        mean, var = self._moments(x, pool=True)
        source_std = (self.running_var + self.eps).sqrt()
        of_means = (mean - self.running_mean).abs() / source_std
        of_stds = 0.5 * ((var + self.eps) / (self.running_var + self.eps)).log().abs()
        return float((of_means + of_stds).mean())

    def _moments(self, x: Tensor, pool: bool) -> tuple[Tensor, Tensor]:
        """Mean and variance per channel: ``(C,)`` over all windows, or ``(N, C)`` window by window."""
        count = x.numel() // x.shape[1] if pool else x[0, 0].numel()
        self._check_enough_voxels(x, count)
        if self._avoids_slow_kernels(x) and not takes_gradient(x):
            mean, var = self._fast_moments(x)
            mean, var = (mean.mean(0), var.mean(0) + mean.var(0, correction=0)) if pool else (mean, var)
        else:
            axes = [0, *range(2, x.ndim)] if pool else list(range(2, x.ndim))
            var, mean = torch.var_mean(x if x.dtype == torch.float64 else x.float(), axes, correction=0)
        return mean, var * (count / (count - self.correction)) if self.correction else var

    def _fast_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance ``(N, C)``, without gradient: the ones that torch's normalisations return on the side.

        On a CPU this takes a fifteenth of `torch.var_mean`'s time in a channels-last layout, and a twentieth in the usual one.
        """
        n_windows, n_channels = x.shape[:2]
        # With weights in half precision the moments would be in half precision, too.
        ones = torch.ones(n_channels, dtype=x.dtype if x.dtype == torch.float64 else torch.float32)
        if _is_channels_last(x):
            each = [torch.native_batch_norm(w, ones, ones, None, None, True, 0.0, self.eps)[1:] for w in x.split(1)]
            mean, inverse_std = (torch.stack(some) for some in zip(*each, strict=True))
        else:
            n_voxels = x[0, 0].numel()
            _, mean, inverse_std = torch.native_group_norm(
                _flat_voxels(x), ones, ones, n_windows, n_channels, n_voxels, n_channels, self.eps
            )
        return mean, (inverse_std**-2 - self.eps).clamp_min(0)

    def _avoids_slow_kernels(self, x: Tensor) -> bool:
        """Whether to avoid the kernels of torch that are slow on a CPU."""
        return self.use_fast and x.device.type == "cpu"

    def _blended(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """A mixture of present statistics with the running ones."""
        b = self.blend
        assert self.running_mean is not None and self.running_var is not None
        return (1 - b) * self.running_mean + b * mean, (1 - b) * self.running_var + b * var

    def _normalize_all_with(self, x: Tensor, mean: Tensor | None, var: Tensor | None) -> Tensor:
        """Normalise all windows with one set of statistics ``(C,)``."""
        assert mean is not None and var is not None and self.running_mean is not None
        dtype = self.running_mean.dtype  # batch_norm needs statistics in the precision of the weights
        return F.batch_norm(x, mean.to(dtype), var.to(dtype), self.weight, self.bias, False, 0.0, self.eps)

    def _normalize_each(self, x: Tensor) -> Tensor:
        """Normalise each window with its own statistics, by whichever kernel is fast and exact for the features' layout."""
        self._check_enough_voxels(x, x[0, 0].numel())
        n_windows, n_channels = x.shape[:2]
        if _is_channels_last(x):  # group_norm is not exact enough in this layout
            each = [F.batch_norm(w, None, None, self.weight, self.bias, True, 0.0, self.eps) for w in x.split(1)]
            return each[0] if n_windows == 1 else torch.cat(each)
        if self._avoids_slow_kernels(x):  # on a CPU, groups of one channel are five times as fast as a batch of one window
            return F.group_norm(_flat_voxels(x), n_channels, self.weight, self.bias, self.eps).view(x.shape)
        # All windows in one call, as channels of a single one. Voxels are flattened to one axis, because torch's kernels give
        # wrong gradients where the gradient of a single window comes back in a channels-last layout.
        flat = x.reshape(1, n_windows * n_channels, -1)
        weight = None if self.weight is None else self.weight.repeat(n_windows)
        bias = None if self.bias is None else self.bias.repeat(n_windows)
        return F.batch_norm(flat, None, None, weight, bias, True, 0.0, self.eps).reshape(x.shape)

    def _normalize_each_with(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """Normalise each window with statistics ``(N, C)``."""
        per_window = (*mean.shape, *[1] * (x.ndim - 2))
        out = (x - mean.view(per_window)) / (var.view(per_window) + self.eps).sqrt()
        if self.weight is not None:
            per_channel = (1, -1, *[1] * (x.ndim - 2))
            out = out * self.weight.view(per_channel)
            out = out if self.bias is None else out + self.bias.view(per_channel)
        return out.to(x.dtype)

    def _check_enough_voxels(self, x: Tensor, count: int) -> None:
        if count < 2:
            raise TooFewVoxels(
                f"layer {self.name!r} sees one voxel per channel (features {tuple(x.shape)}), which has no variance, and it "
                "keeps no statistics of the source to use; give the network larger windows or, if the layer follows a global "
                "pooling, running statistics there (BatchNorm)"
            )


def _is_channels_last(x: Tensor) -> bool:
    """Whether a voxel's channels lie side by side in memory, and not (also) a channel's voxels."""
    kind = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return kind is not None and not x.is_contiguous() and x.is_contiguous(memory_format=kind)


def _flat_voxels(x: Tensor) -> Tensor:
    """Features ``(N, C, voxels)``, with a channel's voxels side by side in memory.

    With more axes, torch 2.13 may take a single channel for a channels-last layout, and then normalises each number by itself.
    """
    return x.contiguous().flatten(2)


class AdaptiveBatchNorm(AdaptiveNorm, _BatchNorm):
    """A BatchNorm of any dimension with a choice of statistics."""


class AdaptiveInstanceNorm(AdaptiveNorm, _InstanceNorm):
    """An InstanceNorm of any dimension, with a choice of statistics where it has running ones."""
