"""The consistency loss of GraTa (Chen et al., AAAI 2025, eq. 4), and one Adam step down its gradient."""

import torch


def consistency_loss(network, x, restyled):
    """Binary cross-entropy of the restyled window's probabilities to the mean of those of six poses."""
    with torch.no_grad():
        answers = [network(x).sigmoid()]
        for axis in (2, 3):
            answers.append(network(x.flip(axis)).sigmoid().flip(axis))
        for turns in (1, 2, 3):
            answers.append(network(x.rot90(turns, (2, 3))).sigmoid().rot90(-turns, (2, 3)))
        q = sum(answers) / 6
    p = network(restyled).sigmoid()
    return -(q * p.log() + (1 - q) * (1 - p).log()).mean()


def consistency_step(network, affine, x, restyled, lr):
    """One step at a constant learning rate."""
    optimizer = torch.optim.Adam(affine, lr)
    gradients = torch.autograd.grad(consistency_loss(network, x, restyled), affine)
    for tensor, gradient in zip(affine, gradients, strict=True):
        tensor.grad = gradient
    optimizer.step()
