"""UPL-SFDA (Wu et al., TMI 2023) for yes/no questions in 2D: four decoders, here the last layer, each with its own turn."""

import copy

import numpy as np
import torch
from scipy import ndimage


def largest(mask):
    """The largest component of a mask."""
    pieces, count = ndimage.label(mask)
    sizes = [(pieces == k).sum() for k in range(1, count + 1)]
    return pieces == 1 + int(np.argmax(sizes)) if count else mask


def upl_steps(network, images, reliable, lr):
    """A step of Adam for each image in turn; returns the encoder and the four decoders."""
    encoder, decoders = copy.deepcopy(network[:-1]), [copy.deepcopy(network[-1]) for _ in range(4)]
    own = torch.optim.Adam(encoder.parameters(), lr)
    others = torch.optim.Adam([p for decoder in decoders for p in decoder.parameters()], lr, betas=(0.5, 0.999))
    for x in images:
        answers = []
        for decoder, turns in zip(decoders, (1, 2, 3, 0), strict=True):
            p = decoder(encoder(x.rot90(turns, (2, 3)))).rot90(-turns, (2, 3)).sigmoid()
            answers.append(torch.stack([1 - p, p], 2)[0].flatten(0, 1))
        mean = sum(answers) / 4
        label = torch.from_numpy(np.stack([largest(m) for m in (mean > reliable).numpy()])).double()
        assert 0 < label.mean() < 0.5
        dice = [(2 * (p * label).sum((1, 2)) + 1e-5) / ((p * label + label).sum((1, 2)) + 1e-5) for p in answers]
        loss = 1 - torch.stack(dice).mean() - (mean * mean.log2()).mean()
        own.zero_grad()
        others.zero_grad()
        loss.backward()
        own.step()
        others.step()
    return encoder, decoders
