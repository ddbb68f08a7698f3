"""Heads on a network's bottleneck, trained with the source network, for four self-supervised losses.

The losses (reconstruction, denoising, super-resolution, rotation) are those of GraTa's code (Chen et al., AAAI 2025,
arXiv 2408.07343). The heads' architecture is this project's own. Only the encoder has a part in these losses, so the gradients of
decoder parameters are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.core.norm_uses import begin_pass
from monai_tta.core.views import View, Views

CHILD = "auxiliary_heads"


class AuxiliaryHeads(nn.Module):
    """An image head and a pose head that take a network's bottleneck features.

    `attach_heads` puts them on a network, and `monai_tta.preparation.train_heads.AuxiliaryHeadsHandler` trains them with it.
    The tasks of `monai_tta.core.tasks` then find them. They have no normalisation layer, so a method that moves scale and shift
    does not move them.

    Args:
        at: name of the submodule whose output is the bottleneck, as in ``network.named_modules()``.
        features: channels of that output.
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        views: the poses to tell apart; None for the paper's six in 2D and the eight combinations of mirrors in 3D.
        hidden: channels inside the image head.
        bounded: whether images are in [0, 1], as in the paper; the image head then ends in a sigmoid.
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
        self.at = at
        self.bounded = bounded
        self.spatial_dims = spatial_dims
        self.views = views or Views(mirrors="axes" if spatial_dims == 2 else "all")
        n_poses = len(self.views.of([1] * spatial_dims))
        self.to_hidden = convolution(features, hidden, 1)
        self.to_image = convolution(hidden, in_channels, 3, padding=1)
        self.pose = nn.Linear(features, n_poses)

    def features(self, network: nn.Module, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The bottleneck features ``(N, features, *coarse)`` of windows ``(N, C, *spatial)``.

        ``args`` and ``kwargs`` are what else the network takes.
        """
        outputs: list[Tensor] = []
        begin_pass(network)
        handle = network.get_submodule(self.at).register_forward_hook(lambda *parts: outputs.append(parts[-1]))
        try:
            network(windows, *args, **kwargs)
        finally:
            handle.remove()
        return outputs[-1]

    def predict_image(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """An image ``(N, C, *size)`` from bottleneck features."""
        mode = "bilinear" if self.spatial_dims == 2 else "trilinear"
        hidden = F.interpolate(F.leaky_relu(self.to_hidden(features)), size=tuple(size), mode=mode, align_corners=False)
        image = self.to_image(hidden)
        return image.sigmoid() if self.bounded else image

    def predict_pose(self, features: Tensor) -> Tensor:
        """Logits of the poses ``(N, poses)`` from bottleneck features."""
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
    """Put `AuxiliaryHeads` on a network, as its child ``auxiliary_heads``.

    What the network predicts stays as it was. Its state dict gains the heads' entries.

    Args:
        network: any module but a `torch.nn.Sequential`.
        at: name of the submodule whose output is the bottleneck.
        choices: the other arguments of `AuxiliaryHeads`.

    Returns:
        the same network.

    Raises:
        ValueError: when there is no such submodule, or the network is a Sequential.
    """
    if isinstance(network, nn.Sequential):
        raise ValueError("heads cannot be put on a torch.nn.Sequential: its forward pass would run them as one more layer")
    if at not in dict(network.named_modules()):
        near = [name for name, _ in network.named_modules() if name][:12]
        raise ValueError(f"{type(network).__name__} has no submodule {at!r}; it begins with {', '.join(near)}")
    network.add_module(CHILD, AuxiliaryHeads(at, **choices))
    return network


def heads_of(network: nn.Module) -> AuxiliaryHeads:
    """The heads that `attach_heads` put on a network.

    Args:
        network: the network.

    Raises:
        ValueError: when it has none.
    """
    heads = network._modules.get(CHILD)
    if not isinstance(heads, AuxiliaryHeads):
        raise ValueError(
            f"{type(network).__name__} has no AuxiliaryHeads; put them on with monai_tta.core.auxiliary_heads.attach_heads and "
            "train them with the source network, or choose EntropyTask or ConsistencyTask, which need none"
        )
    return heads


def reconstruction_loss(network: nn.Module, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mean squared error between windows ``(N, C, *spatial)`` and what the image head predicts from them.

    Args:
        network: a network with `AuxiliaryHeads`.
        windows: images in any unit; the loss is in squared units.
        args: what else the network takes.
        kwargs: what else the network takes.

    Raises:
        ValueError: when the network has no heads. So do the other losses.
    """
    return _image_loss(network, windows, windows, *args, **kwargs)


def denoising_loss(
    network: nn.Module, windows: Tensor, seeds: Sequence[int], *args: Any, deviation: float, **kwargs: Any
) -> Tensor:
    """The same, but the image head predicts the windows from noisy ones.

    Args:
        network: a network with `AuxiliaryHeads`.
        windows: images in any unit; the loss is in squared units.
        seeds: of the noise, one for each window.
        args: what else the network takes.
        deviation: standard deviation of the Gaussian noise, in units of the image.
        kwargs: what else the network takes.
    """
    noise = [torch.randn(w.shape, generator=torch.Generator().manual_seed(s)) for w, s in zip(windows, seeds, strict=True)]
    return _image_loss(network, windows + deviation * torch.stack(noise).to(windows), windows, *args, **kwargs)


def super_resolution_loss(network: nn.Module, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The same, but the image head predicts the windows from ones of half their size (each side rounded down).

    Args:
        network: a network with `AuxiliaryHeads`.
        windows: images in any unit; the loss is in squared units.
        args: what else the network takes.
        kwargs: what else the network takes.
    """
    half = [max(1, side // 2) for side in windows.shape[2:]]
    small = F.interpolate(windows, size=half, mode="bilinear" if len(half) == 2 else "trilinear", align_corners=False)
    return _image_loss(network, small, windows, *args, **kwargs)


def rotation_loss(network: nn.Module, windows: Tensor, seeds: Sequence[int], *args: Any, **kwargs: Any) -> Tensor:
    """Cross-entropy of the pose head in nats, for windows ``(N, C, *spatial)`` each in a pose that its seed draws.

    Args:
        network: a network with `AuxiliaryHeads`.
        windows: images in any unit.
        seeds: one for each window.
        args: what else the network takes.
        kwargs: what else the network takes.

    Raises:
        ValueError: when the network has no heads, or windows have other poses than the head was made for.
    """
    heads = heads_of(network)
    poses = heads.poses(windows.shape[2:])
    drawn = [int(torch.randint(len(poses), (1,), generator=torch.Generator().manual_seed(seed))) for seed in seeds]
    posed = torch.cat([poses[k].apply(window) for k, window in zip(drawn, windows.split(1), strict=True)])
    predicted = heads.predict_pose(heads.features(network, posed, *args, **kwargs))
    return F.cross_entropy(predicted, torch.tensor(drawn, device=predicted.device))


def _image_loss(network: nn.Module, shown: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mean squared error between ``target`` and the image that is predicted from ``shown``."""
    heads = heads_of(network)
    return F.mse_loss(heads.predict_image(heads.features(network, shown, *args, **kwargs), target.shape[2:]), target)
