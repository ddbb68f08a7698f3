"""The consistency loss of GraTa (Chen et al., AAAI 2025, eq. 4), and one Adam step down it."""

import torch


def loss(network, x, strong):
    """Binary cross-entropy of the restyled answer to the mean of six poses' probabilities."""
    with torch.no_grad():
        answers = [network(x).sigmoid()]
        for axis in (2, 3):
            answers.append(network(x.flip(axis)).sigmoid().flip(axis))
        for k in (1, 2, 3):
            answers.append(network(x.rot90(k, (2, 3))).sigmoid().rot90(-k, (2, 3)))
        q = sum(answers) / 6
    p = network(strong).sigmoid()
    return -(q * p.log() + (1 - q) * (1 - p).log()).mean()


def consistency(network, affine, x, strong, lr):
    """At a constant rate."""
    optimizer = torch.optim.Adam(affine, lr)
    for tensor, slope in zip(affine, torch.autograd.grad(loss(network, x, strong), affine), strict=True):
        tensor.grad = slope
    optimizer.step()
