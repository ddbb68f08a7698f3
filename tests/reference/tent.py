"""TENT (Wang et al., ICLR 2021): one Adam step down the gradient of the entropy."""

import torch


def tent_step(network, affine, x, lr):
    """One step. The entropy is that of yes/no questions, summed over channels and averaged over pixels."""
    p = network(x).sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    optimizer = torch.optim.Adam(affine, lr)
    for tensor, gradient in zip(affine, torch.autograd.grad(entropy, affine), strict=True):
        tensor.grad = gradient
    optimizer.step()
