"""EATA (Niu et al., ICML 2022): SGD down the weighted entropy of reliable pixels, held by the Fisher information."""

import torch


def fisher_diagonal(network, affine, images):
    """Mean over images of the squared gradient of the cross-entropy to the network's own yes or no."""
    totals = [torch.zeros_like(tensor) for tensor in affine]
    for x in images:
        z = network(x)
        sure = torch.nn.functional.softplus(-z.abs()).mean()  # -log of the probability of the likelier answer
        for total, part in zip(totals, torch.autograd.grad(sure, affine), strict=True):
            total += part**2 / len(images)
    return totals


def eata_step(network, affine, start, fisher, x, usual, weight, redundancy, share, lr):
    """One step; ``usual`` holds for each channel the mean (no, yes) so far, or None. Returns the loss and the new mean."""
    p = network(x).sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    limit = share * torch.tensor(2.0, dtype=p.dtype).log()
    both = torch.stack([1 - p, p], 2).detach()
    keep = entropy < limit
    if usual is not None:
        dots = (both * usual[None, :, :, None, None]).sum(2)
        keep &= dots / (both.norm(dim=2) * usual.norm(dim=1)[None, :, None, None]) < redundancy
    loss = ((limit - entropy.detach()).exp() * entropy)[keep].mean()
    loss = loss + weight * sum((f * (t - s) ** 2).sum() for f, t, s in zip(fisher, affine, start, strict=True))
    for tensor, part in zip(affine, torch.autograd.grad(loss, affine), strict=True):
        tensor.data -= lr * part
    present = torch.stack([both[0, k][:, keep[0, k]].mean(1) for k in range(p.shape[1])])
    return float(loss.detach()), present if usual is None else 0.9 * usual + 0.1 * present
