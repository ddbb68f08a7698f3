"""No adaptation: the control every comparison starts from."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_tta.method import AdaptationMethod, Loss
from monai_tta.record import Step
from monai_tta.shadow import Shadow


@dataclass(frozen=True, kw_only=True)
class Source(AdaptationMethod):
    """Answer as the source network does (the control of every adaptation paper)."""

    @property
    def learns(self) -> bool:
        """Never."""
        return False

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow in which nothing moves."""
        return Shadow(source, head, None)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Nothing."""
        return ()
