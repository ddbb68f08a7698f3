"""MGG (Deng et al., AAAI 2025): the gradient memory, one coordinate at a time, and the loss."""

import torch


def layer_norm(x, scale, shift):
    return (x - x.mean()) / (x.var(correction=0) + 1e-6).sqrt() * scale + shift


def mgg_steps(w, gradients, lr):
    """Where one coordinate goes from 0 along its gradients; w holds the learned weights, float64."""
    theta, m, v, place = 0.0, 0.0, 0.0, []
    w1, b1 = w["inner_weight"], w["inner_bias"]
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.99 ** (t + 1))
        x = torch.tensor([m_hat / (v_hat**0.5 + 1e-8), g / (v_hat**0.5 + 1e-8)], dtype=torch.float64)
        q, k, value = w["query"] @ x, w["key"] @ x, w["value"] @ x
        eta = 1.0 * (w["rate_weight"] @ x + w["rate_bias"]).sigmoid() / 8 * max(0.0, 1 + float(w["rate_offset"]))
        z = (k @ w1 + b1).requires_grad_()
        error = layer_norm(z, w["inner_scale"], w["inner_shift"]) - (value - k)
        (gradient,) = torch.autograd.grad((error**2).sum() / 2, z)
        w1, b1 = w1 - eta * torch.outer(k, gradient), b1 - eta * gradient
        y = q + layer_norm(q @ w1 + b1, w["inner_scale"], w["inner_shift"])
        out = torch.tanh(w["output"] @ layer_norm(y, w["outer_scale"], w["outer_shift"]))
        theta = theta - lr * float(out) if g != 0 else theta
        place.append(theta)
    return place


def mgg_loss(net, x, source_mean, source_std, weight):
    """Entropy of yes/no questions, plus the distances of the inputs of the BatchNorm layers, averaged over pixels."""
    features = []
    for layer in net:
        if isinstance(layer, torch.nn.BatchNorm2d):
            features.append(x.mean((2, 3)))
            mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
            x = (x - mean) / (var + layer.eps).sqrt() * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
        else:
            x = layer(x)
    p, features = x.sigmoid(), torch.cat(features, 1)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    of_means, of_stds = (features.mean(0) - source_mean) ** 2, (features.std(0, correction=1) - source_std) ** 2
    return entropy + weight / 64 * (of_stds.sum() + of_means.sum())
