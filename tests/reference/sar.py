"""SAR (Niu et al., ICLR 2023): SGD along the gradient of the entropy of reliable pixels at the worst place nearby."""

import torch


def reliable_entropy(network, x, reliable=None):
    """Mean entropy of yes/no questions that are below 0.4 log 2, and which those are; within ``reliable`` where given."""
    p = network(x).sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    below = entropy < 0.4 * torch.tensor(2.0).log()
    below = below if reliable is None else below & reliable
    return entropy[below].mean(), below


def sar_step(network, affine, x, velocity, lr):
    """One step; changes the velocities in place and returns both losses."""
    loss, reliable = reliable_entropy(network, x)
    gradient = torch.autograd.grad(loss, affine)
    before = [tensor.detach().clone() for tensor in affine]
    norm = torch.cat([part.flatten() for part in gradient]).norm()
    for tensor, part in zip(affine, gradient, strict=True):
        tensor.data += 0.05 * part / (norm + 1e-12)
    displaced, _ = reliable_entropy(network, x, reliable)
    sharp = torch.autograd.grad(displaced, affine)
    for tensor, old, v, part in zip(affine, before, velocity, sharp, strict=True):
        v.mul_(0.9).add_(part)
        tensor.data = old - lr * v
    return float(loss.detach()), float(displaced.detach())
