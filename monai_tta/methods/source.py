"""No adaptation: the control that every comparison starts from."""

from collections.abc import Mapping
from dataclasses import dataclass

from monai_tta.core.no_learning import NoLearning


@dataclass(frozen=True, kw_only=True)
class Source(NoLearning):
    """Answer as the source network does, unadapted: the control of every adaptation paper.

    It costs what the inner inferer costs, keeps nothing, and needs nothing from the source.
    """

    @property
    def adapts(self) -> bool:
        """Never."""
        return False

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Zeros: no blend, no step, no edit."""
        return {}
