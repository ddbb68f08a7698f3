"""Small promptable networks whose answers are known beforehand, and images for them."""

import torch
import torch.nn.functional as F
from torch import nn

CALLS = []  # the prompts of each call of a `Clickable`, in every copy of it


class Clickable(nn.Module):
    """A SAM-like network in 2D or 3D that finds a bright object's core by itself, and all of it by a click.

    ``features`` standardise brightness. Without prompts an object is where they exceed 0.8. A positive click asks for what is
    brighter than 0.3 within six voxels, a negative one takes away all within two. A mask grows by a voxel, as far as there is
    more than 0.3. A box keeps what is inside it.
    """

    def __init__(self, dims=2, objects=1, norm=True):
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.objects = objects
        self.features = nn.Sequential(
            conv(1, 1, 1), (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](1) if norm else nn.GroupNorm(1, 1)
        )
        with torch.no_grad():
            self.features[0].weight.fill_(1)
            self.features[0].bias.fill_(0)
        self.eval()

    def forward(self, image, points=None, labels=None, mask=None, box=None):
        CALLS.append({"points": points, "labels": labels, "mask": mask, "box": box, "n": len(image)})
        bright = self.features(image)
        if points is None and mask is None and box is None:
            return torch.cat([20 * (bright - 0.8 - 0.5 * k) for k in range(self.objects)], 1)
        assert len(image) == 1, "prompts belong to one window"
        bright = bright.expand(len(next(p for p in (points, mask, box) if p is not None)), *bright.shape[1:])
        allowed = torch.ones_like(bright, dtype=torch.bool)
        if points is not None:
            allowed = near(bright, points, labels == 1, 6.0) & ~near(bright, points, labels == 0, 2.0)
        if mask is not None:
            pool = F.max_pool2d if image.ndim == 4 else F.max_pool3d
            allowed = allowed & (pool((mask > 0).float(), 3, 1, 1) > 0)
        if box is not None:
            allowed = allowed & inside_boxes(bright, box)
        return torch.where(allowed, 20 * (bright - 0.3), -10.0).transpose(0, 1)


def places(like):
    """The coordinates of each voxel, ``(dims, *spatial)``."""
    return torch.stack(torch.meshgrid(*[torch.arange(float(side)) for side in like.shape[2:]], indexing="ij"))


def near(like, points, chosen, radius):
    """Which voxels are near a chosen point of each object, ``(b, 1, *spatial)``."""
    found = torch.zeros_like(like, dtype=torch.bool)
    for k, (own, is_chosen) in enumerate(zip(points, chosen, strict=True)):
        for point in own[is_chosen]:
            away = places(like) - point.view(-1, *[1] * (like.ndim - 2))
            found[k, 0] |= (away**2).sum(0) <= radius**2
    return found


def inside_boxes(like, box):
    first, last = (part.view(*part.shape, *[1] * (like.ndim - 2)) for part in box.chunk(2, 1))
    at = places(like)[None]
    return ((at >= first) & (at <= last)).all(1, keepdim=True)


def discs(shape, centres, radius=5.0, peak=1.0):
    """An image ``(1, 1, *shape)`` of objects that get darker from the centre to the rim, and their mask.

    The peak is at the centre and half of it at the rim; outside it is 0.
    """
    image = torch.zeros(1, 1, *shape)
    for centre in centres:
        away = ((places(image) - torch.tensor(centre).view(-1, *[1] * len(shape)).float()) ** 2).sum(0).sqrt()
        image[0, 0] = torch.maximum(image[0, 0], torch.where(away <= radius, peak * (1 - 0.5 * away / radius), 0.0))
    return image, image > 0


def dice(answer, truth):
    mask = answer > 0
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


class TaskPrompted(nn.Module):
    """A UniSeg-like network: a learnt prompt is fused with features, and the task's channel of the fusion goes on.

    Task ``k`` looks for brightness near ``levels[k]``, so each task suits one scanner.
    """

    def __init__(self, levels=(1.0, 3.0)):
        super().__init__()
        self.encoder = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.intermedia_prompt = nn.Parameter(torch.zeros(1, len(levels), 1, 1))
        self.fusion_layer = nn.Conv2d(1 + len(levels), len(levels), 1)
        self.decoder = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.encoder.weight.zero_()
            self.encoder.weight[..., 1:, 1:] = 1 / 4  # not symmetric, so that views of an edge differ
            self.intermedia_prompt[0, :, 0, 0] = torch.tensor(levels)
            self.fusion_layer.weight.zero_()
            self.fusion_layer.bias.zero_()
            for k in range(len(levels)):
                self.fusion_layer.weight[k, 0] = 1
                self.fusion_layer.weight[k, 1 + k] = -1
            self.decoder.weight.fill_(1)
            self.decoder.bias.zero_()
        self.eval()

    def forward(self, image, task_id=0):
        features = self.encoder(image)
        prompt = self.intermedia_prompt.expand(len(image), -1, *features.shape[2:])
        fused = self.fusion_layer(torch.cat([features, prompt], 1))
        task = int(task_id[0]) if isinstance(task_id, torch.Tensor) else task_id
        chosen = self.decoder(fused[:, task : task + 1])
        return 8 * (0.8 - chosen.abs())
