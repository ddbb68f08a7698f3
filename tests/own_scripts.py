"""A promptable network, and an inferer that calls it by keyword and reads an attribute of it."""

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn


class Promptable(nn.Module):
    def __init__(self):
        super().__init__()
        self.spatial_dims = 3
        self.stem, self.norm, self.last = nn.Conv3d(1, 8, 4, stride=4), nn.LayerNorm(8), nn.Linear(8, 64)
        self.prompts = nn.Embedding(4, 8)

    def forward(self, input_images, class_vector):
        tokens = self.norm(self.stem(input_images).movedim(1, -1))
        asked = self.last(tokens + self.prompts(class_vector)[:, None, None, None])
        n, x, y, z, _ = asked.shape
        cubes = asked.view(n, x, y, z, 4, 4, 4).permute(0, 1, 4, 2, 5, 3, 6)
        return cubes.reshape(n, 1, x * 4, y * 4, z * 4)


class PromptInferer(SlidingWindowInferer):
    def __call__(self, inputs, network, *args, **kwargs):
        prompts = torch.arange(2)
        whole = [network(class_vector=prompts, input_images=part) for part in inputs.split(16, dim=network.spatial_dims + 1)]
        return torch.cat(whole, -1).movedim(0, 1)


class ClassInferer(SlidingWindowInferer):
    """One channel for each class that is asked for, as VISTA3D answers."""

    def __call__(self, inputs, network, *args, **kwargs):
        asked = torch.tensor([[1], [network.point_head.last_supported]])
        return super().__call__(inputs, network, transpose=True, class_vector=asked, prompt_class=asked, point_coords=None)


class Several(nn.Module):
    """A small network that returns its answer alone or with another output, in some container."""

    def __init__(self, form, dims=3, channels=1):
        super().__init__()
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        self.form = form
        self.body = nn.Sequential(conv(channels, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, 2, 1))

    def forward(self, x):
        main = self.body(x)
        other = main.flip(1)
        forms = {"alone": main, "pair": (main, other), "list": [main, [other]], "dictionary": {"aux": other, "out": main}}
        forms |= {"second": (other, main), "unnamed": {"liver": main, "tumour": other}, "probabilities": (main.softmax(1), other)}
        return forms[self.form]
