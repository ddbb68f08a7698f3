"""VPTTA (Chen et al., CVPR 2024): one Adam step of a low-frequency prompt towards the source's feature statistics."""

import torch
from torch import nn


def prompted(x, prompt):
    """Amplitudes of the centred low frequencies times the prompt, phases as they are; x (N, C, H, W), prompt (C, p, q)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    amplitude, phase = spectrum.abs(), spectrum.angle()
    (height, width), (p, q) = x.shape[-2:], prompt.shape[-2:]
    factor = torch.ones_like(amplitude)
    top, left = height // 2 - p // 2, width // 2 - q // 2
    factor[..., top : top + p, left : left + q] = prompt
    changed = torch.fft.ifftshift(torch.polar(amplitude * factor, phase), dim=(-2, -1))
    return torch.fft.ifft2(changed).real


def forward(net, x, share):
    """The answer with mixed statistics, and the loss: distances of means and deviations, mean over the BatchNorm layers."""
    distances = []
    for layer in net:
        if not isinstance(layer, nn.BatchNorm2d):
            x = layer(x)
            continue
        present_mean, present_var = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3))
        mean = share * present_mean + (1 - share) * layer.running_mean
        var = share * present_var + (1 - share) * layer.running_var
        distances.append((mean - x.mean((2, 3))).abs().mean() + (var.sqrt() - x.std((2, 3))).abs().mean())
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (var.view(shape) + layer.eps).sqrt() * layer.weight.view(shape) + layer.bias.view(shape)
    return x, sum(distances) / len(distances)


def bank_start(bank, x, size, n_neighbors):
    """Where a prompt starts: ones, or the mean of the prompts of the nearest images, weighted by softmax(cosine / 0.2)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1)).abs()[0]
    rows, columns = (slice(n // 2 - p // 2, n // 2 + p // 2 + 1) for n, p in zip(spectrum.shape[1:], size, strict=True))
    key = spectrum[:, rows, columns].flatten()
    if len(bank) < n_neighbors:
        return torch.ones(x.shape[1], *size, dtype=x.dtype), key
    found = sorted(((float(key @ k / (key.norm() * k.norm())), prompt) for k, prompt in bank), key=lambda pair: -pair[0])
    cosines = torch.tensor([cosine for cosine, _ in found[:n_neighbors]], dtype=x.dtype)
    weights = (cosines / 0.2).exp() / (cosines / 0.2).exp().sum()
    return sum(w * prompt for w, (_, prompt) in zip(weights, found, strict=False)), key


def vptta_step(net, x, size, lr, n_images=1, warm_up=5):
    """Answer an image after one step from a prompt of ones; returns the logits, the loss and the prompt."""
    share = 1 / (n_images**0.5 / warm_up + 1)
    prompt = torch.ones(x.shape[1], *size, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([prompt], lr, betas=(0.9, 0.99))
    _, loss = forward(net, prompted(x, prompt), share)
    (prompt.grad,) = torch.autograd.grad(loss, prompt)
    optimizer.step()
    return forward(net, prompted(x, prompt), share)[0].detach(), loss.item(), prompt.detach()
