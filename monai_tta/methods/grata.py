"""GraTa: gradient-aligned adaptation (Chen, Ye, Pan, Xia; AAAI 2025; arXiv 2408.07343)."""

from dataclasses import dataclass

from torch import Tensor

from monai_tta.core.gradients import cosine, length
from monai_tta.core.method import Descent, Loss
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import ConsistencyTask, EntropyTask, Task
from monai_tta.core.trust import SquaredTrust, Trust


@dataclass(frozen=True, kw_only=True)
class GraTa(Descent):
    """Go down a pseudo objective, at a learning rate set by how well its gradient agrees with an auxiliary one.

    Chen, Ye, Pan, Xia, AAAI 2025, arXiv 2408.07343. A step costs two forward and backward passes of the adaptation windows
    and a forward pass of each of their views.

    Args:
        auxiliary: the objective that shows where to look ahead; half the entropy in the paper's code.
        pseudo: the objective to go down; consistency between a restyled window and the average over views.
        look_ahead: how far to look along the auxiliary gradient, in multiples of it. The paper's code takes exactly 1.0, which
            ties the method to the scale of the loss.
        normalized: take ``look_ahead`` as a distance in parameter space instead.
        trust: the factor on the learning rate, from the cosine of the two gradients.
    """

    auxiliary: Task = EntropyTask(half=True)
    pseudo: Task = ConsistencyTask()
    look_ahead: float = 1.0
    normalized: bool = False
    trust: Trust = SquaredTrust()

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The pseudo objective, in nats."""
        return self.pseudo(shadow, windows)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step in the paper's order: look ahead, take the gradient there, come back, move as far as the two agree."""
        entropy, auxiliary = shadow.gradient(self.auxiliary, windows)
        distance = self.look_ahead / (length(auxiliary) + 1e-12) if self.normalized else self.look_ahead
        with shadow.displaced(auxiliary, -distance):
            value, pseudo = shadow.gradient(loss, windows)
        agreement = cosine(auxiliary, pseudo)
        trust = self.trust(agreement)
        shadow.step_along(pseudo, trust)
        return Step(losses={"auxiliary": entropy, "loss": value}, cosine=agreement, lr=self.optimizer.lr * trust)
