"""DUA (Mirza et al., CVPR 2022): running statistics that follow a stream, by torch's own layers in training mode."""

import torch
from torch import nn


@torch.no_grad()
def dua_answers(network, images):
    """Answers to images ``(1, C, H, W)`` in turn, after a pass of their six poses with a falling momentum."""
    norms = [layer for layer in network if isinstance(layer, nn.BatchNorm2d)]
    momentum = 0.1
    answers = []
    for x in images:
        momentum *= 0.94
        for layer in norms:
            layer.train()
            layer.momentum = momentum + 0.005
        network(torch.cat([x, x.flip(2), x.flip(3), *[x.rot90(turns, (2, 3)) for turns in (1, 2, 3)]]))
        for layer in norms:
            layer.eval()
        answers.append(network(x))
    return answers
