"""Parameters that are added to a network and move in place of its own: low-rank increments and adapters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.core.added_files import AddedFileError, read_added
from monai_tta.core.auxiliary_heads import CHILD
from monai_tta.core.errors import CannotAdapt, cannot_use
from monai_tta.core.network_copy import network_digest
from monai_tta.core.selection import Selection

__all__ = ["Added"]

DOWN = "added_down"  # the names of the parameters that a layer gets
UP = "added_up"


@dataclass(frozen=True, kw_only=True)
class Added(Selection):
    """New parameters beside a network's convolutions, in place of its own weights. It changes the network that it is given.

    kind="lora" adds to a convolution's answer that of a second one, of low rank (Hu et al., ICLR 2022, arXiv 2106.09685, without
    a factor on the increment): a convolution like the layer's own with ``rank`` output channels, then one of kernel 1 to the
    layer's channels. kind="adapter" adds to a convolution's answer ``h`` a bottleneck of ``rank`` channels,
    ``up(gelu(down(h)))``, with two convolutions of kernel 1 (Houlsby et al., ICML 2019, arXiv 1902.00751). Neither has biases.

    The second convolution starts at zero, so the network predicts the same to the last bit until it moves. With a ``file`` it
    starts where training at the source left it (TPP; arXiv 2408.15011), and the network predicts something else from the start.

    The 2D and 3D convolutions of a network get them. Transposed convolutions are left alone. So are grouped ones with "lora",
    because its increment would mix groups, and so are the auxiliary heads. Where a network uses a convolution's weight without
    calling the layer, nothing is added.

    Each of these layers computes a small convolution more in each pass. With "lora", answer and gradient of one of 32 channels
    took about twice as long on a CPU (docs/added-parameters.md).

    Args:
        kind: "lora" or "adapter".
        rank: channels of the bottleneck, 1 or more.
        where: a regular expression (`re.search`) that a convolution's name must match; empty for all.
        seed: of the first convolution's random weights, normal with a variance of one over the number of inputs of each output.
        file: what `monai-tta pretrain-added` wrote for this network and these choices; empty to start from nothing.

    Raises:
        ValueError: for choices out of range.
    """

    kind: Literal["lora", "adapter"] = "lora"
    rank: int = 2
    where: str = ""
    seed: int = 0
    file: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("lora", "adapter"):
            raise ValueError(f"kind must be 'lora' or 'adapter', found {self.kind!r}")
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"rank is a whole number, 1 or more, found {self.rank!r}")
        try:
            re.compile(self.where)
        except re.error as error:
            raise ValueError(f"where is a regular expression, found {self.where!r}: {error}") from error

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of trained parameters, where there is one."""
        return (Path(self.file),) if self.file else ()

    @property
    def record_name(self) -> str:
        """With the name of the file alone. Its folder is nobody's business."""
        return repr(replace(self, file=Path(self.file).name))

    @property
    def choices(self) -> dict[str, Any]:
        """What the shapes and places of the parameters follow from; a file fits only the same."""
        return {"kind": self.kind, "rank": self.rank, "where": self.where}

    def __call__(self, network: nn.Module) -> list[str]:
        """Names of the new parameters, two for each convolution; empty for a network without a convolution that fits.

        Raises:
            CannotAdapt: for a file that is not there, is damaged, or was made for another network or with other choices.
        """
        network_before = network_digest(network) if self.file else ""
        generator = torch.Generator().manual_seed(self.seed)
        added: dict[str, nn.Parameter] = {}
        for name, layer in self._layers(network):
            for key, value in zip((DOWN, UP), self._initial(layer, generator), strict=True):
                layer.register_parameter(key, nn.Parameter(value))
                added[f"{name}.{key}" if name else key] = layer.get_parameter(key)
            layer.register_forward_hook(_add_increment if self.kind == "lora" else _add_bottleneck, with_kwargs=True)
        if self.file and added:
            path = Path(self.file)
            try:
                read_added(path).fill(added, self.choices, network_before)
            except AddedFileError as error:
                words = str(cannot_use(path, error))
                raise CannotAdapt(words if path.name in words else f"{path.name} {words}") from error
        return list(added)

    def _layers(self, network: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Conv3d]]:
        """The convolutions that get parameters, with their names."""
        for name, layer in network.named_modules():
            is_fit = isinstance(layer, nn.Conv2d | nn.Conv3d) and (self.kind == "adapter" or layer.groups == 1)
            if is_fit and re.search(self.where, name) and name.split(".")[0] != CHILD:
                yield name, layer

    def _initial(self, layer: nn.Conv2d | nn.Conv3d, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random weights of the first convolution and zeros for the second, in the layer's dtype and on its device."""
        ones = [1] * len(layer.kernel_size)
        shape = (layer.in_channels, *layer.kernel_size) if self.kind == "lora" else (layer.out_channels, *ones)
        down = torch.randn(self.rank, *shape, generator=generator) / prod(shape) ** 0.5
        return down.to(layer.weight), torch.zeros(layer.out_channels, self.rank, *ones).to(layer.weight)


def _add_increment(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    """A convolution's answer with its low-rank increment."""
    features = args[0] if args else kwargs["input"]
    stock = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Conv3d  # not its fast form, which is for frozen weights
    return output + _pointwise(stock._conv_forward(layer, features, layer.added_down, None), layer.added_up).to(output.dtype)


def _add_bottleneck(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    """A convolution's answer with what its adapter makes of it."""
    return output + _pointwise(F.gelu(_pointwise(output, layer.added_down)), layer.added_up).to(output.dtype)


def _pointwise(features: Tensor, weight: Tensor) -> Tensor:
    """A convolution of kernel 1."""
    return (F.conv2d if weight.ndim == 4 else F.conv3d)(features, weight)
