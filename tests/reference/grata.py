"""GraTa (Chen et al., AAAI 2025): look ahead along the entropy's gradient, ask consistency there, agree, step."""

import torch

from tests.reference.consistency import loss


def grata(network, affine, x, strong, lr):
    """The look-ahead is the bare gradient; the rate is beta (cos + 1)^2 / 4."""
    p = network(x).sigmoid()
    g_ent = torch.autograd.grad(-(p * (p + 1e-6).log()).sum(1).mean(), affine)
    home = [t.detach().clone() for t in affine]
    for tensor, slope in zip(affine, g_ent, strict=True):
        tensor.data -= slope
    g_con = torch.autograd.grad(loss(network, x, strong), affine)
    for tensor, old in zip(affine, home, strict=True):
        tensor.data = old
    a, b = (torch.cat([g.flatten() for g in gs]) for gs in (g_con, g_ent))
    cos = a @ b / (a.norm() * b.norm() + 1e-12)
    for tensor, slope in zip(affine, g_con, strict=True):
        tensor.grad = slope
    torch.optim.Adam(affine, lr * float(cos + 1) ** 2 / 4).step()
    return float(cos)
