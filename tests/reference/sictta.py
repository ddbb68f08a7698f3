"""SicTTA (Wu et al., 2026), in part: each image is normalised by its own statistics and those of its most alike predecessors."""

import torch
from torch import nn


@torch.no_grad()
def sictta_answers(network, images, neighbors, blend):
    """Answers to images ``(1, C, H, W)`` in turn; alike are the second convolution's features, by the source's statistics."""
    norms = [k for k, layer in enumerate(network) if isinstance(layer, nn.BatchNorm2d)]
    bank, answers = [], []
    for x in images:
        key, own, h = network[:4](x).mean((0, 2, 3)), {}, x
        for k, layer in enumerate(network):
            if k in norms:
                own[k] = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
                h = nn.functional.batch_norm(h, *own[k], layer.weight, layer.bias, eps=layer.eps)
            else:
                h = layer(h)
        alike = sorted(bank, key=lambda entry: -float(torch.cosine_similarity(entry[0], key, 0)))[:neighbors]
        h = x
        for k, layer in enumerate(network):
            if k in norms:
                cases = [own[k], *(case[k] for _, case in alike)]
                means, variances = (torch.stack(parts) for parts in zip(*cases, strict=True))
                together = means.mean(0), variances.mean(0) + ((means - means.mean(0)) ** 2).mean(0)
                source = layer.running_mean, layer.running_var
                mean, var = ((1 - blend) * a + blend * b for a, b in zip(source, together, strict=True))
                h = nn.functional.batch_norm(h, mean, var, layer.weight, layer.bias, eps=layer.eps)
            else:
                h = layer(h)
        bank.append((key, own))
        answers.append(h)
    return answers
