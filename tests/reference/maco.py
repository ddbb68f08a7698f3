"""MaCo (arXiv 2408.12814), as far as it is published: the masked step, and soft labels from scribbles."""

import torch


def patch_chances(p, side, preference):
    """Each patch's chance ``(rows, columns)``: 1 to ``preference`` by mean foreground; probabilities are ``(1, K, H, W)``."""
    foreground = p.max(1).values[0]
    rows, columns = (range(0, length, side) for length in foreground.shape)
    mean = torch.tensor([[foreground[y : y + side, x : x + side].mean() for x in columns] for y in rows], dtype=p.dtype)
    return 1 + (preference - 1) * mean / mean.max()


def drawn_patches(chances, n_drawn, uniform):
    """Which patches are drawn: those with the largest ``u^(1 / chance)``, for uniform numbers u of the same shape."""
    keys = (uniform ** (1 / chances)).flatten()
    drawn = torch.zeros(keys.shape, dtype=torch.bool)
    drawn[keys.argsort(descending=True)[:n_drawn]] = True
    return drawn.view(chances.shape)


def blanked(x, drawn, side):
    """The window with the drawn patches at the mean of their channel over the whole window."""
    out = x.clone()
    for row, column in drawn.nonzero().tolist():
        rows, columns = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
        out[:, :, rows, columns] = x.mean((2, 3), keepdim=True)
    return out


def masked_loss(network, x, masked):
    """Binary cross-entropy of the blanked window's probabilities to the whole window's, which count as constants."""
    q = network(x).sigmoid().detach()
    p = network(masked).sigmoid()
    return -(q * p.log() + (1 - q) * (1 - p).log()).mean()


def masked_step(network, affine, x, masked, lr):
    """One Adam step; returns the loss before it."""
    loss = masked_loss(network, x, masked)
    optimizer = torch.optim.Adam(affine, lr)
    for tensor, gradient in zip(affine, torch.autograd.grad(loss, affine), strict=True):
        tensor.grad = gradient
    optimizer.step()
    return loss.item()


def soft_labels(scribble, values, half_distance, spacing):
    """For each voxel ``exp(-a d_c)`` over its sum, and the largest of them as weight; d in mm by brute force, a = ln 2 / half."""
    spacing = torch.tensor(spacing, dtype=torch.float64)
    every = torch.ones_like(scribble).nonzero() * spacing
    decay = []
    for value in values:
        marked = (scribble == value).nonzero() * spacing
        distance = torch.stack([(marked - voxel).norm(dim=1).min() for voxel in every])
        decay.append((0.5 ** (distance / half_distance)).view(scribble.shape))
    decay = torch.stack(decay)
    return decay / decay.sum(0), decay.max(0).values[None]


def weighted_loss(logits, target, weight):
    """Softmax cross-entropy to soft labels, each voxel by its weight, over the sum of the weights; for one window."""
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -(weight * target * p.log()).sum() / weight.sum()
