"""The normalisation layers of a shadow: pool their statistics, look at them, and count those that kept the source's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from monai_tta.core.normalization import AdaptiveNorm


class HasNorms:
    """What a shadow does with its normalisation layers. It is called with windows, and ``module`` is its network."""

    module: nn.Module
    __call__: Callable[..., Tensor]

    @property
    def n_kept_source(self) -> int:
        """How many normalisation layers kept the source's statistics because one voxel per channel has no variance."""
        return sum(m.kept_source for m in self.module.modules() if isinstance(m, AdaptiveNorm))

    def pool_statistics(self, windows: Tensor, unbiased: bool = False) -> None:
        """Pool normalisation statistics over these windows and keep them (only in layers with statistics="volume").

        With ``unbiased``, layers normalise by biased variances meanwhile and keep unbiased ones, as BatchNorm does in training.
        """
        layers = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.statistics == "volume"]
        if not layers:
            return
        counts: dict[tuple[AdaptiveNorm, int], int] = {}

        def count(layer: AdaptiveNorm, inputs: tuple[Tensor, ...]) -> None:
            counts[layer, max(layer.use, 0)] = inputs[0].numel() // inputs[0].shape[1]

        with _pooling(layers), self.before_norms(count), torch.no_grad():
            self(windows)
        for layer in layers if unbiased else ():
            layer.pooled = tuple(
                None if one is None else (one[0], one[1] * (counts[layer, use] / (counts[layer, use] - 1)))
                for use, one in enumerate(layer.pooled)
            )

    def distances(self, windows: Tensor) -> list[float]:
        """How far the pooled statistics of these windows are from the source's.

        Returns:
            one figure (see `AdaptiveNorm.distance`) for each use of a layer, in the order of the forward pass. Layers without
            running statistics, and those that see one voxel per channel, have none.
        """
        found: list[float] = []
        with torch.no_grad(), self.before_norms(lambda layer, inputs: found.append(layer.distance(inputs[0]))):
            self(windows)
        return found

    @contextmanager
    def before_norms(self, use: Callable[[AdaptiveNorm, tuple[Tensor, ...]], None]) -> Iterator[None]:
        """A ``with`` block in which each layer with running statistics hands its inputs to ``use`` before it normalises them.

        Not where it sees one voxel per channel, which has no statistics to speak of.
        """

        def before(layer: AdaptiveNorm, inputs: tuple[Tensor, ...]) -> None:
            if not layer.keeps_source(inputs[0]):
                use(layer, inputs)

        layers = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats]
        hooks = [m.register_forward_pre_hook(before) for m in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def _pooling(layers: list[AdaptiveNorm]) -> Iterator[None]:
    for layer in layers:
        layer.pooling = True
    try:
        yield
    finally:
        for layer in layers:
            layer.pooling = False
