"""Alpha-BN (You et al. 2021): a mixture of the source's and the image's statistics; nothing is learnt."""

from torch import nn


def blended_answer(network, x, blend):
    """Run the network layer by layer, and mix means and biased variances in each BatchNorm."""
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            mean = (1 - blend) * layer.running_mean + blend * x.mean((0, 2, 3))
            var = (1 - blend) * layer.running_var + blend * x.var((0, 2, 3), correction=0)
            x = (x - mean[:, None, None]) / (var[:, None, None] + layer.eps).sqrt()
            x = x * layer.weight[:, None, None] + layer.bias[:, None, None]
        else:
            x = layer(x)
    return x
