"""No adaptation: the control every comparison starts from."""

from dataclasses import dataclass

from monai_tta.method import Still


@dataclass(frozen=True, kw_only=True)
class Source(Still):
    """Answer as the source network does (the control of every adaptation paper)."""

    @property
    def adapts(self) -> bool:
        """Never."""
        return False
