"""Rehearsal after MedCoSS (Ye et al., CVPR 2024): entropy, and what the source made of stored features, mixed in pairs."""

import torch
import torch.nn.functional as F
from torch import nn


def unit_answer(layer, given):
    """What one layer makes of features; BatchNorm normalises by its running statistics."""
    if isinstance(layer, nn.BatchNorm2d):
        return F.batch_norm(given, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0.0, layer.eps)
    return layer(given)


def rehearsal_steps(net, source, affine, x, stored, pairs, weight, lr):
    """One Adam step for each ``(share, order)`` in ``pairs``; ``stored`` has features (S, C, h, w) by number of a norm layer."""
    optimizer = torch.optim.Adam(affine, lr)
    losses = []
    for share, order in pairs:
        p = net(x).sigmoid()
        loss = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
        forgotten = 0.0
        for number, features in stored.items():
            mixed = share.view(-1, 1, 1, 1) * features + (1 - share.view(-1, 1, 1, 1)) * features[order]
            wanted = unit_answer(source[number], mixed).detach()
            forgotten += ((unit_answer(net[number], mixed) - wanted) ** 2).mean() / ((wanted - wanted.mean()) ** 2).mean()
        loss = loss + weight * forgotten / len(stored)
        for tensor, gradient in zip(affine, torch.autograd.grad(loss, affine), strict=True):
            tensor.grad = gradient
        optimizer.step()
        losses.append(loss.item())
    return losses
