"""No adaptation: the control every comparison starts from."""

from dataclasses import dataclass

from monai_tta.core.method import NoLearning


@dataclass(frozen=True, kw_only=True)
class Source(NoLearning):
    """Answer as the source network does (the control of every adaptation paper)."""

    @property
    def adapts(self) -> bool:
        """Never."""
        return False
