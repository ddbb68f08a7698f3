"""Which use of a normalisation layer is on: a network may use one layer at several places in a pass (shared blocks, recurrence).

What the layer is given differs from place to place, so each use has pooled statistics of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt

MeanAndVariance = tuple[Tensor, Tensor]


class CountsUses:
    """Counts how often a layer was used since the pass began (see `begin_pass`), and keeps pooled statistics by use.

    Attributes:
        name: what error messages call the layer.
        pooled: mean and variance ``(C,)`` by use, pooled and blended; None for a use that keeps the source's. Empty before any
            were pooled.
        pooling: whether the next forward pass pools, for statistics="volume".
        use: the number of the next use in this pass, from 0; -1 for a layer outside any pass, whose uses are not told apart.
        has_running_stats: whether the layer came with running statistics.
        kept_source: whether the source's statistics were used where the present ones were wanted but have no variance.
    """

    name: str
    pooled: tuple[MeanAndVariance | None, ...] = ()
    pooling: bool = False
    use: int = -1
    has_running_stats: bool = False
    kept_source: bool = False

    def keeps_source(self, x: Tensor) -> bool:
        """Whether features ``(N, C, *spatial)`` have one voxel per channel, and the source has statistics to use instead."""
        return self.has_running_stats and x[0, 0].numel() == 1

    def count_use(self) -> int:
        """The number of the use that begins now.

        Raises:
            CannotAdapt: where a checkpointed part is computed again in a backward pass, and the layer is used at several places.
        """
        if torch._C._current_graph_task_id() == -1:  # no backward pass is going on
            if self.use < 0:
                return 0
            self.use += 1
            return self.use - 1
        if len(self.pooled) > 1:
            raise CannotAdapt(
                f"layer {self.name!r} is used at {len(self.pooled)} places, each with statistics of its own, and gradient "
                "checkpointing does not tell which place it computes again; adapt without it, or choose statistics='window'"
            )
        return 0

    def keep_pooled(self, use: int, statistics: MeanAndVariance | None) -> None:
        """Keep what was pooled for a use; None for the source's."""
        self.pooled = (*self.pooled[:use], statistics)

    def pooled_for(self, use: int) -> MeanAndVariance | None:
        """What was pooled for a use; None for the source's.

        Raises:
            CannotAdapt: for a use that did not happen while statistics were pooled.
        """
        if use < len(self.pooled):
            return self.pooled[use]
        raise CannotAdapt(
            f"layer {self.name!r} is used more often in this pass than in the one in which its statistics were pooled "
            f"({len(self.pooled)}); choose statistics='window' or 'source'"
        )

    def pooled_over_uses(self) -> MeanAndVariance | None:
        """One mean and variance of all uses, as running statistics have it; None where all uses keep the source's."""
        found = [statistics for statistics in self.pooled if statistics is not None]
        if not found:
            return None
        return joint(found)


def running_statistics(layer: nn.Module) -> MeanAndVariance:
    """The source's running mean and variance ``(C,)`` of a layer that has them."""
    mean = layer.get_buffer("running_mean")
    return mean, layer.get_buffer("running_var")


def joint(statistics: Sequence[MeanAndVariance]) -> MeanAndVariance:
    """The mean and variance of several groups of values together, each of the same weight, from those of each group.

    Args:
        statistics: of each group, at least one.
    """
    means, variances = (torch.stack(parts) for parts in zip(*statistics, strict=True))
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)


def mixed(a: MeanAndVariance, b: MeanAndVariance, share: float) -> MeanAndVariance:
    """``(1 - share) * a + share * b``, for means and for variances."""
    return (1 - share) * a[0] + share * b[0], (1 - share) * a[1] + share * b[1]


def begin_pass(module: nn.Module) -> None:
    """Start counting the uses of a network's layers anew. A shadow does so at each pass; whoever calls its parts does it here."""
    for layer in module.modules():
        if isinstance(layer, CountsUses):
            layer.use = 0
