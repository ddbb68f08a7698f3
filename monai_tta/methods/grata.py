"""GraTa: gradient-aligned adaptation (Chen, Ye, Pan, Xia; AAAI 2025; arXiv 2408.07343)."""

from dataclasses import dataclass

from torch import Tensor

from monai_tta.core.gradients import cosine, displaced, gradient, norm, step_along
from monai_tta.core.method import Descent, Loss, require_gradient
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import ConsistencyTask, EntropyTask, Task
from monai_tta.core.trust import SquaredTrust, Trust


@dataclass(frozen=True, kw_only=True)
class GraTa(Descent):
    """Go down a pseudo objective at a rate set by how well its gradient agrees with an auxiliary one.

    Chen, Ye, Pan, Xia, AAAI 2025, arXiv 2408.07343. ``reach`` is the length of the look-ahead along the auxiliary
    gradient: exactly 1.0 times the gradient in the paper's code, which ties the method to the loss's scale;
    ``normalized=True`` makes ``reach`` a radius in parameter space instead.
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
        """One step in the paper's order: look ahead, ask there, come back, move as far as the two agree."""
        moving = shadow.moving
        entropy, auxiliary = gradient(lambda w: self.auxiliary(shadow, w), windows, moving)
        look_ahead = self.look_ahead / (norm(auxiliary) + 1e-12) if self.normalized else self.look_ahead
        with displaced(moving, auxiliary, -look_ahead):
            value, pseudo = gradient(lambda w: loss(shadow, w), windows, moving)
        require_gradient(pseudo)
        agreement = cosine(auxiliary, pseudo)
        factor = self.trust(agreement)
        assert shadow.optimizer is not None
        step_along(shadow.optimizer, pseudo, factor)
        return Step(losses={"auxiliary": entropy, "loss": value}, cosine=agreement, lr=self.optimizer.lr * factor)
