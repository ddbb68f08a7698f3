"""Shortcuts with parameters for MONAI's ResNet-18 and -34, whose own let no gradient through."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def project_shortcuts(network: Network) -> Network:
    """Replace the parameter-free shortcuts of a new MONAI ResNet by 1x1 convolutions with a norm layer, as in ResNet-34.

    MONAI 1.6's ResNet-18 and -34 (also as the backbone of `FlexibleUNet`) pad the three shortcuts that change the width with
    zeros, on detached tensors. Hence no gradient flows through them, the network cannot be scripted, and a trace keeps the values
    of its example image. Use this on a network before it is trained: the new layers have random weights.

    Args:
        network: any network with such blocks in it. It is changed.

    Returns:
        the same network.

    Raises:
        ValueError: for a network without such a shortcut.

    Source: He et al., CVPR 2016, section 3.3, option B.
    """
    blocks: list[Any] = [m for m in network.modules() if isinstance(getattr(m, "downsample", None), partial)]
    if not blocks:
        found = type(network).__name__
        raise ValueError(f"{found} has no parameter-free ResNet shortcut, which MONAI's ResNet-18 and -34 have; use it as it is")
    for block in blocks:
        convolution = block.conv1
        planes = block.downsample.keywords["planes"]
        stride = block.downsample.keywords["stride"]
        projection = type(convolution)(convolution.in_channels, planes, kernel_size=1, stride=stride, bias=False)
        nn.init.kaiming_normal_(projection.weight, mode="fan_out", nonlinearity="relu")
        block.downsample = nn.Sequential(projection, deepcopy(block.bn2))
    return network
