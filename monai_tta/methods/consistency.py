"""Consistency alone: GraTa without its alignment, the control that GraTa needs."""

from dataclasses import dataclass

from torch import Tensor

from monai_tta.core.method import Descent
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import ConsistencyTask, Task


@dataclass(frozen=True, kw_only=True)
class Consistency(Descent):
    """Pull the answer of a restyled image towards the average over the plain image's views, at a constant learning rate.

    The pseudo objective of GraTa alone (Chen et al., AAAI 2025, arXiv 2408.07343, eq. 4). A step costs one forward and
    backward pass of the adaptation windows and a forward pass of each of their views. It keeps nothing from case to case
    unless the stream is continual, and needs nothing from the source.

    Args:
        objective: the loss, in nats.
    """

    objective: Task = ConsistencyTask()

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Cross-entropy to the views' mean, in nats."""
        return self.objective(shadow, windows)
