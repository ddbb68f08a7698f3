"""Which way, when the source network was trained with more to do: heads on its bottleneck for four self-supervised tasks.

The tasks (reconstruct, denoise, double the resolution, tell the pose) and their losses are those of GraTa's code (Chen et
al., AAAI 2025, arXiv 2408.07343); the shape of the heads is our own. Only the encoder lies on their way, so the gradients
of decoder parameters are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.core.views import View, Views

CHILD = "auxiliary_heads"


class AuxiliaryHeads(nn.Module):
    """An image head and a pose head that read a network's bottleneck.

    Put them on with `attach_heads`, train them with the source
    (`monai_tta.preparation.train_heads.AuxiliaryHeadsHandler`), and the tasks of
    `monai_tta.core.tasks` find them. They hold no normalisation layer, so adapting scale and shift never moves them.

    Args:
        at: name of the submodule whose output is the bottleneck, as in ``network.named_modules()``.
        features: channels of that output.
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        views: the poses to tell apart; None for the six of the paper in 2D, the eight mirror combinations in 3D.
        hidden: channels inside the image head.
        bounded: True for images in [0, 1], which a sigmoid paints (the paper's case); False for any other range.
    """

    def __init__(
        self,
        at: str,
        features: int,
        in_channels: int,
        spatial_dims: int,
        views: Views | None = None,
        hidden: int = 16,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        self.at, self.bounded, self.spatial_dims = at, bounded, spatial_dims
        self.views = views or Views(mirrors="axes" if spatial_dims == 2 else "all")
        poses = len(self.views.of([1] * spatial_dims))
        self.inward = convolution(features, hidden, 1)
        self.outward = convolution(hidden, in_channels, 3, padding=1)
        self.pose = nn.Linear(features, poses)

    def features(self, network: nn.Module, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The bottleneck ``(N, features, *coarse)`` of windows ``(N, C, *spatial)``."""
        caught: list[Tensor] = []
        handle = network.get_submodule(self.at).register_forward_hook(lambda *parts: caught.append(parts[-1]))
        try:
            network(windows, *args, **kwargs)
        finally:
            handle.remove()
        return caught[-1]

    def paint(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """An image ``(N, C, *size)`` from bottleneck features."""
        mode = "bilinear" if self.spatial_dims == 2 else "trilinear"
        fine = F.interpolate(F.leaky_relu(self.inward(features)), size=tuple(size), mode=mode, align_corners=False)
        image = self.outward(fine)
        return image.sigmoid() if self.bounded else image

    def name_pose(self, features: Tensor) -> Tensor:
        """Logits ``(N, poses)`` from bottleneck features."""
        return self.pose(features.flatten(2).mean(2))

    def poses(self, shape: Sequence[int]) -> list[View]:
        """The poses of windows of this spatial shape.

        Raises:
            ValueError: when a window of this shape has fewer poses than the head was made for.
        """
        poses = self.views.of(shape)
        if len(poses) != self.pose.out_features:
            raise ValueError(
                f"the pose head tells {self.pose.out_features} poses apart, a window of {tuple(shape)} has {len(poses)}; "
                "use windows of equal sides, or heads with views=Views(mirrors='axes', turns=False)"
            )
        return poses


def attach_heads(network: nn.Module, at: str, **choices: Any) -> nn.Module:
    """Put `AuxiliaryHeads` on a network, as its child ``auxiliary_heads``, and return the network.

    What the network answers stays as it was; its state dict gains the heads' entries.

    Args:
        network: any module that is not a plain `torch.nn.Sequential` (a further child would join its chain).
        at: name of the submodule that puts out the bottleneck.
        choices: the other arguments of `AuxiliaryHeads`.

    Raises:
        ValueError: when there is no such submodule, or the network is a Sequential.
    """
    if isinstance(network, nn.Sequential):
        raise ValueError("heads cannot join a torch.nn.Sequential: every child of it is a step of its forward pass")
    if at not in dict(network.named_modules()):
        near = [name for name, _ in network.named_modules() if name][:12]
        raise ValueError(f"{type(network).__name__} has no submodule {at!r}; it begins with {', '.join(near)}")
    network.add_module(CHILD, AuxiliaryHeads(at, **choices))
    return network


def heads_of(network: nn.Module) -> AuxiliaryHeads:
    """The heads put on a network.

    Raises:
        ValueError: when it has none.
    """
    heads = network._modules.get(CHILD)
    if not isinstance(heads, AuxiliaryHeads):
        raise ValueError(
            f"{type(network).__name__} has no AuxiliaryHeads; put them on with "
            "monai_tta.core.auxiliary_heads.attach_heads and train them "
            "with the source network, or choose EntropyTask or ConsistencyTask, which need none"
        )
    return heads


def reconstruct(network: nn.Module, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mean squared error between windows and what the image head paints from their bottleneck."""
    return repaint(network, windows, windows, *args, **kwargs)


def denoise(network: nn.Module, windows: Tensor, seeds: Sequence[int], *args: Any, deviation: float, **kwargs: Any) -> Tensor:
    """The same from windows with Gaussian noise of this standard deviation, in units of the image."""
    noise = [torch.randn(w.shape, generator=torch.Generator().manual_seed(s)) for w, s in zip(windows, seeds, strict=True)]
    return repaint(network, windows + deviation * torch.stack(noise).to(windows), windows, *args, **kwargs)


def double(network: nn.Module, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The same from windows at half their size (each side rounded down)."""
    half = [max(1, s // 2) for s in windows.shape[2:]]
    small = F.interpolate(windows, size=half, mode="bilinear" if len(half) == 2 else "trilinear", align_corners=False)
    return repaint(network, small, windows, *args, **kwargs)


def repaint(network: nn.Module, shown: Tensor, wanted: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mean squared error between ``wanted`` and the image painted from ``shown``."""
    heads = heads_of(network)
    return F.mse_loss(heads.paint(heads.features(network, shown, *args, **kwargs), wanted.shape[2:]), wanted)


def tell_pose(network: nn.Module, windows: Tensor, seeds: Sequence[int], *args: Any, **kwargs: Any) -> Tensor:
    """Cross-entropy in nats of the pose head, each window in a pose drawn by its seed."""
    heads = heads_of(network)
    poses = heads.poses(windows.shape[2:])
    drawn = [int(torch.randint(len(poses), (1,), generator=torch.Generator().manual_seed(s))) for s in seeds]
    posed = torch.cat([poses[k].apply(w) for k, w in zip(drawn, windows.split(1), strict=True)])
    told = heads.name_pose(heads.features(network, posed, *args, **kwargs))
    return F.cross_entropy(told, torch.tensor(drawn, device=told.device))
