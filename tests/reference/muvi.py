"""MuVi (Joshi et al., MICCAI 2025) for yes/no questions in 2D: the source's sure answers along both axes, and agreement."""

import torch


def entropy(p):
    return -(p * p.log() + (1 - p) * (1 - p).log())


def dice_and_cross_entropy(p, y):
    """One minus the mean over questions of the soft Dice, plus the mean over pixels and questions of the cross-entropy."""
    dice = (2 * (p * y).sum((0, 2, 3)) + 1e-5) / ((p + y).sum((0, 2, 3)) + 1e-5)
    return 1 - dice.mean() - (y * p.log() + (1 - y) * (1 - p).log()).mean()


def muvi_step(network, source, parameters, x, velocity, lr, longest):
    """One step with Nesterov's momentum of 0.99; changes velocities in place, returns the loss and the gradient's length."""
    with torch.no_grad():
        first, second = source(x).sigmoid(), source(x.mT).mT.sigmoid()
    surely = (first > 0.5) & (entropy(first) <= 0.577 * torch.tensor(2.0).log())
    surely |= (second > 0.5) & (entropy(second) <= 0.289 * torch.tensor(2.0).log())
    assert 0.05 < surely.double().mean() < 0.95
    p, turned = network(x).sigmoid(), network(x.mT).mT.sigmoid()
    loss = (dice_and_cross_entropy(p, surely.double()) + dice_and_cross_entropy(turned, surely.double())) / 2
    loss = loss + dice_and_cross_entropy(turned, (p > 0.5).double())
    features, others = network[:4](x), network[:4](x.mT).mT
    loss = loss + 1 - ((features * others).sum(1) / (features.norm(dim=1) * others.norm(dim=1))).mean()
    gradients = torch.autograd.grad(loss, parameters)
    size = torch.cat([part.flatten() for part in gradients]).norm()
    for tensor, part, v in zip(parameters, gradients, velocity, strict=True):
        part = part * min(1.0, longest / float(size))
        v.mul_(0.99).add_(part)
        tensor.data -= lr * (part + 0.99 * v)
    return float(loss.detach()), float(size)
