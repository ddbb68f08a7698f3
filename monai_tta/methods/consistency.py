"""Consistency alone: GraTa without its alignment, the control GraTa needs."""

from dataclasses import dataclass

from torch import Tensor

from monai_tta.core.method import Descent
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import ConsistencyTask, Task


@dataclass(frozen=True, kw_only=True)
class Consistency(Descent):
    """Answer a restyled image as the plain one's views are answered on average, at a constant rate.

    The pseudo objective of GraTa alone (Chen et al., AAAI 2025, arXiv 2408.07343, eq. 4).
    """

    objective: Task = ConsistencyTask()

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy to the views' mean, in nats."""
        return self.objective(shadow, windows)
