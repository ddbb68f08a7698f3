"""Statistics alone: the control that tells whose statistics are used from what is learnt."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from monai_tta.core.no_learning import NoLearning
from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.objectives import Head
from monai_tta.core.shadow import Shadow


@dataclass(frozen=True, kw_only=True)
class Statistics(NoLearning):
    """Blend the source's normalisation statistics with the present image's; learn nothing.

    PTN / alpha-BN: Nado et al. 2020, arXiv 2006.10963; You et al. 2021, arXiv 2110.04065. With statistics="volume" it costs one
    forward pass of the adaptation windows more than the source does. It keeps nothing. It needs running statistics in the
    network to blend with: a layer without them always uses the present window's.

    Args:
        statistics: "source", each "window"'s own, or pooled over the "volume"'s adaptation windows.
        blend: share of the present statistics, in [0, 1].
    """

    statistics: StatisticsFrom = "window"
    blend: float = 0.3

    def __post_init__(self) -> None:
        if self.statistics not in ("source", "window", "volume") or not 0 <= self.blend <= 1:
            raise ValueError(
                f"statistics must be 'source', 'window' or 'volume' and blend in [0, 1], found {self.statistics!r}, {self.blend}"
            )

    @property
    def pools_statistics(self) -> bool:
        """True for statistics="volume"."""
        return self.statistics == "volume"

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Its blend, and whether each window has statistics of its own."""
        return {"blend": self.blend, "window statistics": float(self.statistics == "window")}

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow in which no tensor moves and statistics are blended."""
        return Shadow(source, head, None, self.statistics, self.blend)
