"""Faster kernels for layers of a shadow on a CPU, where torch 2.13 takes slow ones for 3D convolutions and PReLUs.

Answers and gradients are the same up to rounding. `docs/performance.md` has what was measured.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.compute.layer_mixins import FastKernels, takes_gradient, with_mixin
from monai_tta.compute.precision import native_half_dtype

# For few output channels, the gradient of the input is computed up to nine times as fast by a convolution. From 14 channels on it
# is not.
MAX_CHANNELS_FOR_FAST_GRADIENT = 8
# Each such gradient needs the weights flipped. With more weights than this, to flip them takes longer than is saved.
MAX_WEIGHTS_TO_FLIP = 2**20


def use_fast_kernels(module: nn.Module) -> nn.Module:
    """Make each 3D convolution and PReLU of a network, in place, use fast kernels where these can do the same.

    A subclass with a forward pass of its own is left as it is.

    Returns:
        the same module.
    """
    for layer in module.modules():
        made: Any = layer  # the same object, whose type is about to change
        kind: Any = type(layer)
        if isinstance(layer, nn.Conv3d):
            if kind.forward is nn.Conv3d.forward and kind._conv_forward is nn.Conv3d._conv_forward:
                made.__class__ = with_mixin(kind, FastConv3d)
        elif isinstance(layer, nn.PReLU) and kind.forward is nn.PReLU.forward:
            made.__class__ = with_mixin(kind, FastPReLU)
    return module


def _compute_dtype(weight: Tensor) -> torch.dtype:
    """The type in which a layer computes on a CPU: autocast's where that is on, else its weights'."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype


class FastConv3d(FastKernels, nn.Conv3d):
    """A frozen 3D convolution of stride one that always uses oneDNN.

    torch does not use oneDNN for one small window. For the gradient of the input it does, but with a kernel that is slow for few
    output channels. Here that gradient is a convolution with flipped weights.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dtype = None
        if self.use_fast and self._is_slow_in_torch(input, weight) and self._is_supported(input, weight, bias):
            dtype = self._onednn_dtype(input, weight)
        if dtype is None:
            return super()._conv_forward(input, weight, bias)
        out: Tensor = _OneDNNConvolution.apply(
            input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), list(self.padding)
        )
        return out

    def _is_slow_in_torch(self, x: Tensor, weight: Tensor) -> bool:
        """Whether torch's kernels are slow: for a single window, or for a gradient from few output channels."""
        if x.ndim != 5:
            return False
        is_single_window = len(x) == 1 and weight.numel() < MAX_WEIGHTS_TO_FLIP
        has_slow_gradient = self.out_channels <= MAX_CHANNELS_FOR_FAST_GRADIENT and takes_gradient(x)
        return is_single_window or has_slow_gradient

    def _is_supported(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether `_OneDNNConvolution` can compute this layer for this input. Wrong inputs are left to torch and its messages."""
        if type(x) is not Tensor or any(p.requires_grad for p in (weight, bias) if p is not None):
            return False
        if self.groups != 1 or self.padding_mode != "zeros" or isinstance(self.padding, str) or x.shape[1] != weight.shape[1]:
            return False
        size, pads = self.kernel_size, self.padding
        is_plain = {*self.stride, *self.dilation} == {1} and set(size) != {1} and x.numel() > 0
        return is_plain and all(p < k <= n + 2 * p for p, k, n in zip(pads, size, x.shape[2:], strict=True))

    def _onednn_dtype(self, x: Tensor, weight: Tensor) -> torch.dtype | None:
        """The type in which oneDNN computes this layer; None where it cannot."""
        if not (x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
            return None
        dtype = _compute_dtype(weight)
        is_input_ready = x.dtype == dtype or torch.is_autocast_enabled("cpu")
        is_native = dtype == torch.float32 or dtype == native_half_dtype(x.device)
        return dtype if is_input_ready and is_native else None


class _OneDNNConvolution(torch.autograd.Function):
    """A 3D convolution of stride one by oneDNN. The gradient of its input is another one, with flipped weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pads: list[int]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.pads = pads
        out: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, pads, [1] * 3, [1] * 3, 1)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        flipped = weight.flip(2, 3, 4).transpose(0, 1)
        pads = [k - 1 - p for k, p in zip(weight.shape[2:], ctx.pads, strict=True)]
        return _OneDNNConvolution.apply(gradients[0].contiguous(), flipped, None, pads), None, None, None


class FastPReLU(FastKernels, nn.PReLU):
    """A frozen PReLU with one slope, computed as a leaky ReLU. torch takes a PReLU's gradient number by number."""

    def forward(self, input: Tensor) -> Tensor:
        """The same answer to the last bit."""
        slope = self.weight
        can_be_leaky = (
            self.use_fast
            and takes_gradient(input)
            and slope.numel() == 1
            and not slope.requires_grad
            and input.device.type == "cpu"
        )
        dtype = _compute_dtype(slope)
        if not can_be_leaky or input.dtype != dtype:
            return super().forward(input)
        return F.leaky_relu(input, float(slope.to(dtype)))
