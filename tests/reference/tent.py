"""TENT (Wang et al., ICLR 2021): one Adam step down the entropy of the answer."""

import torch


def tent(network, affine, x, lr):
    """Entropy of yes/no questions, summed over channels, averaged over pixels."""
    p = network(x).sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    optimizer = torch.optim.Adam(affine, lr)
    for tensor, slope in zip(affine, torch.autograd.grad(entropy, affine), strict=True):
        tensor.grad = slope
    optimizer.step()
