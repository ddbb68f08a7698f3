"""TENT: test-time entropy minimisation (Wang et al., ICLR 2021, arXiv 2006.10726)."""

from dataclasses import dataclass

from torch import Tensor

from monai_tta.core.method import Descent
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import EntropyTask, Task


@dataclass(frozen=True, kw_only=True)
class Tent(Descent):
    """Go down the entropy of the answer by moving normalisation scale and shift, with present statistics.

    Wang et al., ICLR 2021, arXiv 2006.10726. The official code answers before its step; here the answer comes after it. A step
    costs one forward and backward pass of the adaptation windows. It keeps nothing from case to case unless the stream is
    continual, and needs nothing from the source.

    Args:
        objective: the loss; mean entropy per voxel unless told otherwise.
    """

    objective: Task = EntropyTask()

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean entropy, in nats."""
        return self.objective(shadow, windows)
