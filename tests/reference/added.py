"""Low-rank increments of convolutions (Hu et al., ICLR 2022) and adapters (Houlsby et al., ICML 2019), one optimiser step."""

import torch
import torch.nn.functional as F
from torch import nn


def initial(net, rank, seed, kind):
    """The pairs (A, B) of each convolution: A random, B zero."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for layer in [layer for layer in net if isinstance(layer, nn.Conv2d)]:
        inputs = (layer.in_channels, *layer.kernel_size) if kind == "lora" else (layer.out_channels, 1, 1)
        a = torch.randn(rank, *inputs, generator=generator).to(layer.weight) / (inputs[0] * inputs[1] * inputs[2]) ** 0.5
        pairs.append((a.requires_grad_(), torch.zeros(layer.out_channels, rank, dtype=a.dtype, requires_grad=True)))
    return pairs


def forward(net, pairs, x, kind):
    """The answer: each weight W becomes W + B A; or each convolution's answer h becomes h + B gelu(A h)."""
    pairs = iter(pairs)
    for layer in net:
        if not isinstance(layer, nn.Conv2d):
            x = layer(x)
            continue
        a, b = next(pairs)
        if kind == "lora":
            x = F.conv2d(x, layer.weight + torch.einsum("or,rihw->oihw", b, a), layer.bias, layer.stride, layer.padding)
        else:
            x = layer(x)
            x = x + torch.einsum("or,nrhw->nohw", b, F.gelu(torch.einsum("rohw,nohw->nrhw", a, x)))
    return x


def added_steps(net, x, rank, seed, kind, lr, steps):
    """Adam steps of the pairs alone down the entropy of a sigmoid head; returns the answer after them."""
    pairs = initial(net, rank, seed, kind)
    tensors = [tensor for pair in pairs for tensor in pair]
    optimizer = torch.optim.Adam(tensors, lr)
    for _ in range(steps):
        p = forward(net, pairs, x, kind).sigmoid()
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
        for tensor, part in zip(tensors, torch.autograd.grad(entropy, tensors), strict=True):
            tensor.grad = part
        optimizer.step()
    return forward(net, pairs, x, kind).detach()
