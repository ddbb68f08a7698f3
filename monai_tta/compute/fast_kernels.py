"""How fast: layers of a shadow by other kernels than torch 2.13 takes on a CPU, where its own take many times as long.

What was measured is in `docs/performance.md`. Answers and gradients are the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.compute.layer_mixins import FastKernels, takes_gradient, with_mixin
from monai_tta.compute.precision import native_half_dtype

# A gradient from so few channels is a convolution of its own up to nine times as fast; from 14 on it is not.
FEW_CHANNELS = 8
# Weights are turned round for each gradient, which takes longer than is saved where there are more of them than this.
MANY_WEIGHTS = 2**20


def use_fast_kernels(module: nn.Module) -> nn.Module:
    """Give each 3D convolution and each PReLU of a network, in place, the quick kernels for when they fit.

    A subclass with a forward pass of its own is left as it is.
    """
    for layer in module.modules():
        made: Any = layer
        kind: Any = type(layer)
        if isinstance(layer, nn.Conv3d):
            if kind.forward is nn.Conv3d.forward and kind._conv_forward is nn.Conv3d._conv_forward:
                made.__class__ = with_mixin(kind, FastConv3d)
        elif isinstance(layer, nn.PReLU) and kind.forward is nn.PReLU.forward:
            made.__class__ = with_mixin(kind, FastPReLU)
    return module


def _computed_in(weight: Tensor) -> torch.dtype:
    """The arithmetic of a layer on a CPU: the autocast's, where there is one."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype


class FastConv3d(FastKernels, nn.Conv3d):
    """A frozen 3D convolution of stride one that always goes through oneDNN, which torch leaves out for one small window, and
    whose gradient is a convolution with the weights turned round, for which oneDNN's own kernel is slow where few channels
    come out."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        kind = (
            self._kind(input, weight) if self.use_fast and self._slow(input, weight) and self._fits(input, weight, bias) else None
        )
        if kind is None:
            return super()._conv_forward(input, weight, bias)
        out: Tensor = _Convolution.apply(
            input.to(kind), weight.to(kind), None if bias is None else bias.to(kind), list(self.padding)
        )
        return out

    def _slow(self, x: Tensor, weight: Tensor) -> bool:
        """Whether torch's own way takes long: the answer of one window, or a gradient from few channels."""
        return x.ndim == 5 and (
            (len(x) == 1 and weight.numel() < MANY_WEIGHTS) or (self.out_channels <= FEW_CHANNELS and takes_gradient(x))
        )

    def _fits(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether this is a frozen convolution, and an input, that `_Convolution` can compute; what is wrong, torch says best."""
        if type(x) is not Tensor or any(p.requires_grad for p in (weight, bias) if p is not None):
            return False
        if self.groups != 1 or self.padding_mode != "zeros" or isinstance(self.padding, str) or x.shape[1] != weight.shape[1]:
            return False
        size, pads = self.kernel_size, self.padding
        whole = {*self.stride, *self.dilation} == {1} and set(size) != {1} and x.numel() > 0
        return whole and all(p < k <= n + 2 * p for p, k, n in zip(pads, size, x.shape[2:], strict=True))

    def _kind(self, x: Tensor, weight: Tensor) -> torch.dtype | None:
        """What it will be computed in, if oneDNN can."""
        if not (x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
            return None
        kind = _computed_in(weight)
        able = (x.dtype == kind or torch.is_autocast_enabled("cpu")) and (
            kind == torch.float32 or kind == native_half_dtype(x.device)
        )
        return kind if able else None


class _Convolution(torch.autograd.Function):
    """A convolution of stride one by oneDNN; the gradient of its input is one, too, with the weights turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pads: list[int]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.pads = pads
        out: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, pads, [1] * 3, [1] * 3, 1)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        turned = weight.flip(2, 3, 4).transpose(0, 1)
        pads = [k - 1 - p for k, p in zip(weight.shape[2:], ctx.pads, strict=True)]
        return _Convolution.apply(slopes[0].contiguous(), turned, None, pads), None, None, None


class FastPReLU(FastKernels, nn.PReLU):
    """A frozen PReLU of one slope, whose gradient torch takes number by number, as the leaky ReLU that it is."""

    def forward(self, input: Tensor) -> Tensor:
        """The same answer to the last bit."""
        slope = self.weight
        known = (
            self.use_fast
            and takes_gradient(input)
            and slope.numel() == 1
            and not slope.requires_grad
            and input.device.type == "cpu"
        )
        kind = _computed_in(slope)
        if not known or input.dtype != kind:
            return super().forward(input)
        return F.leaky_relu(input, float(slope.to(kind)))
