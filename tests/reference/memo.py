"""MEMO (Zhang et al., NeurIPS 2022), voxel by voxel: one SGD step of all parameters down the entropy of the views' mean."""

import torch

from tests.reference.statistics import blended_answer


def memo_step(network, x, restyled, lr, share):
    """One step with three views: the image, and two restyled mirror images, mirrored back. Returns the loss."""
    answers = [blended_answer(network, x, share).sigmoid()]
    for axis in (2, 3):
        answers.append(blended_answer(network, restyled(x.flip(axis)), share).sigmoid().flip(axis))
    p = sum(answers) / 3
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    parameters = list(network.parameters())
    for tensor, gradient in zip(parameters, torch.autograd.grad(entropy, parameters), strict=True):
        tensor.data -= lr * gradient
    return float(entropy.detach())
