"""InTEnt (Dong et al., CVPRW 2024): answers under mixtures of statistics, weighted by their certainty."""

import torch
from torch import nn


def present_statistics(network, x):
    """Means and unbiased variances that a pass in training mode leaves behind when its momentum is 1."""
    found = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            found.append((x.mean((0, 2, 3)), x.var((0, 2, 3))))
            x = nn.functional.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
        else:
            x = layer(x)
    return found


def answer_at(network, x, present, ratio):
    """Probabilities with ``(1 - ratio) * source + ratio * present`` in each layer."""
    left = iter(present)
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            mean, var = next(left)
            mean, var = (1 - ratio) * layer.running_mean + ratio * mean, (1 - ratio) * layer.running_var + ratio * var
            x = nn.functional.batch_norm(x, mean, var, layer.weight, layer.bias, False, 0.0, layer.eps)
        else:
            x = layer(x)
    return x.sigmoid()


@torch.no_grad()
def intent_answer(network, x, balanced):
    """The mean of six answers and its weights. Entropy in bits; balanced: mean over foreground and background of each channel."""
    present = present_statistics(network, x)
    answers = [answer_at(network, x, present, ratio / 5) for ratio in range(6)]
    scores = []
    for p in answers:
        bits = -(p * p.log2() + (1 - p) * (1 - p).log2())
        each = []
        for h, inside in zip(bits[0], p[0] >= 0.5, strict=True):
            parts = [h[inside], h[~inside]] if balanced else [h]
            each.append(sum(part.mean() for part in parts if len(part)) / sum(1 for part in parts if len(part)))
        scores.append(1 - sum(each) / len(each))
    scores = torch.stack(scores)
    weights = ((scores - scores.min()) / (scores.max() - scores.min())).softmax(0)
    return sum(w * p for w, p in zip(weights, answers, strict=True)), weights, sum(answers) / 6
