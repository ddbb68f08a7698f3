"""CoSAM's loop (arXiv 2411.10136) with points inside the mask, and Tent around it, in plain code for one 2D window."""

import copy

import torch


def inner_points(mask, n_points):
    """Voxels of a mask ``(H, W)``, each the farthest from all that is outside, and outside the balls around those before it."""
    inside, outside = mask.nonzero().float(), (~mask).nonzero().float()
    depth = torch.cdist(inside, outside).amin(1)
    points = []
    while len(points) < n_points and len(depth) and depth.max() > 0:
        best = int(depth.argmax())
        points.append(inside[best])
        gap = (inside - inside[best]).pow(2).sum(1).sqrt()
        depth = torch.where(gap <= max(1.0, float(depth[best])), -1.0, depth)
    return torch.stack(points)[None]


def rounds_of_points(net, x, rounds, n_points=1):
    """The last of the answers of a network with one channel."""
    logits = net(x)
    for _ in range(rounds):
        points = inner_points(logits[0, 0] > 0, n_points)
        logits = net(x, points=points, labels=torch.ones(points.shape[:2], dtype=torch.long))
    return logits


def tent_step_of_the_last_round(net, x, rounds, lr):
    """One step of gradient descent down the entropy of the last answer; the last answer after it, and the entropy before."""
    net = copy.deepcopy(net)
    affine = [net.features[1].weight, net.features[1].bias]
    logits = rounds_of_points(net, x, rounds)
    entropy = (torch.nn.functional.softplus(logits) - logits * logits.sigmoid()).mean()
    for tensor, slope in zip(affine, torch.autograd.grad(entropy, affine), strict=True):
        tensor.data -= lr * slope
    with torch.no_grad():
        return rounds_of_points(net, x, rounds), float(entropy.detach())
