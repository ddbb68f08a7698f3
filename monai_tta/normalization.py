"""Whose statistics: normalisation layers that can use the source's memory, the present window's, or the volume's.

A `PresentNorm` takes the place of a BatchNorm or InstanceNorm layer *inside a shadow*; the source network keeps its own.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

Whose = Literal["source", "window", "volume"]
Layer = _BatchNorm | _InstanceNorm


class TooFewVoxels(ValueError):
    """A layer saw one value per channel, from which no statistics can be taken."""


def replaceable(module: nn.Module) -> bool:
    """Whether a shadow puts a `PresentNorm` in this layer's place (BatchNorm of any kind, InstanceNorm)."""
    return isinstance(module, _BatchNorm | _InstanceNorm)


class PresentNorm(nn.Module):
    """Normalise features ``(N, C, *spatial)`` by the source's, each window's own, or the volume's pooled statistics.

    ``blend`` b in [0, 1] mixes means and variances: ``(1 - b) * source + b * present`` (alpha-BN; You et al. 2021).
    Variances are the biased ones, as BatchNorm normalises with. A layer without memory (InstanceNorm, or BatchNorm
    with ``track_running_stats=False``) always uses each window's own.

    Raises:
        TooFewVoxels: when present statistics are asked of one voxel per channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layer: Layer, statistics: Whose, blend: float, name: str) -> None:
        super().__init__()
        self.name, self.eps, self.blend, self.features = name, layer.eps, blend, layer.num_features
        self.register_parameter("weight", layer.weight)
        self.register_parameter("bias", layer.bias)
        self.register_buffer("running_mean", layer.running_mean)
        self.register_buffer("running_var", layer.running_var)
        self.remembers = layer.running_mean is not None
        self.statistics: Whose = statistics if self.remembers else "window"
        self.pooled: tuple[Tensor, Tensor] | None = None
        self.gathering = False

    def attach(self, like: Tensor) -> bool:
        """Put a scale of one and a shift of zero (dtype and device of ``like``) on a layer that has neither.

        Returns:
            whether it had neither.
        """
        if self.weight is not None or self.bias is not None:
            return False
        self.weight = nn.Parameter(torch.ones(self.features, dtype=like.dtype, device=like.device))
        self.bias = nn.Parameter(torch.zeros(self.features, dtype=like.dtype, device=like.device))
        return True

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised, scaled and shifted features, in the shape and dtype of ``x``."""
        if self.statistics == "source" or (self.statistics == "volume" and self.pooled is None and not self.gathering):
            return self._fixed(x, self.running_mean, self.running_var)
        if self.statistics == "volume":
            if self.gathering:
                self.pooled = self._mixed(*self._moments(x, pool=True))
            assert self.pooled is not None
            return self._fixed(x, *self.pooled)
        if not self.remembers or self.blend == 1:
            return self._own(x)
        mean, var = self._mixed(*self._moments(x, pool=False))
        return self._scaled(x, mean, var)

    def _moments(self, x: Tensor, pool: bool) -> tuple[Tensor, Tensor]:
        """Mean and biased variance per channel: ``(C,)`` over all windows, or ``(N, C)`` window by window."""
        self._demand(x, x.numel() // x.shape[1] if pool else x[0, 0].numel())
        axes = [0, *range(2, x.ndim)] if pool else list(range(2, x.ndim))
        var, mean = torch.var_mean(x.float(), axes, correction=0)
        return mean, var

    def _mixed(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Blend present statistics with the source's memory."""
        b = self.blend
        return (1 - b) * self.running_mean + b * mean, (1 - b) * self.running_var + b * var

    def _fixed(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """The usual evaluation-mode normalisation with one set of statistics for all windows."""
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)

    def _own(self, x: Tensor) -> Tensor:
        """Each window by itself: folding windows into channels keeps them apart. Voxels are folded into one axis because
        torch's CPU kernels give wrong gradients when those of one window come back channels-last."""
        self._demand(x, x[0, 0].numel())
        n, c = x.shape[:2]
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
