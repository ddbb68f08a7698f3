"""A base for methods that learn nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow


@dataclass(frozen=True, kw_only=True)
class NoLearning(AdaptationMethod):
    """A method that learns nothing. It differs in how its shadow begins or how it predicts."""

    @property
    def learns(self) -> bool:
        """Never."""
        return False

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow in which nothing moves."""
        return Shadow(source, head, None)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Nothing."""
        return ()
