"""DG-TTA (Weihsbach et al., Sensors 2025): two warped answers, brought back, should overlap."""

import torch


def bilinear(x, matrix):
    """x ``(1, C, H, W)`` sampled pixel by pixel at ``matrix @ (column, row, 1)``, in coordinates from -1 to 1; zeros outside."""
    h, w = x.shape[2:]
    rows = []
    for i in range(h):
        for j in range(w):
            place = torch.tensor([(2 * j + 1) / w - 1, (2 * i + 1) / h - 1, 1.0], dtype=x.dtype)
            u, v = matrix @ place
            column, row = ((u + 1) * w - 1) / 2, ((v + 1) * h - 1) / 2
            total = x.new_zeros(x.shape[1])
            for r in (int(row.floor()), int(row.floor()) + 1):
                for c in (int(column.floor()), int(column.floor()) + 1):
                    if 0 <= r < h and 0 <= c < w:
                        total = total + x[0, :, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
            rows.append(total)
    return torch.stack(rows, 1).view(1, -1, h, w)


def dgtta_step(network, parameters, x, seeds, lr, deviation):
    """One step of AdamW for yes/no questions; returns the loss."""
    answers, inside = [], True
    for seed in seeds:
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
        matrix = (torch.eye(2, 3) + deviation * noise).double()
        square = torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])
        back = torch.linalg.inv(square)[:2]
        answers.append(bilinear(network(bilinear(x, matrix)), back).sigmoid())
        inside = inside & (bilinear(bilinear(torch.ones_like(x[:, :1]), matrix), back) > 0.999)
    a, b = (answer * inside for answer in answers)
    loss = (1 - 4 * (a * b).sum((0, 2, 3)) / ((a + b) ** 2).sum((0, 2, 3))).mean()
    for tensor, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        tensor.grad = gradient
    torch.optim.AdamW(parameters, lr).step()
    assert 0.3 < inside.double().mean() < 1
    return float(loss.detach())
