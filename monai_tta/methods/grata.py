"""GraTa: gradient-aligned adaptation (Chen, Ye, Pan, Xia; AAAI 2025; arXiv 2408.07343)."""

from dataclasses import dataclass

from torch import Tensor

from monai_tta.method import Descent, Loss, require_gradient
from monai_tta.record import Step
from monai_tta.shadow import Shadow
from monai_tta.tasks import ConsistencyTask, EntropyTask, Task
from monai_tta.updates import SquaredTrust, Trust, cosine, displaced, follow, gradient, norm


@dataclass(frozen=True, kw_only=True)
class GraTa(Descent):
    """Go down a pseudo objective at a rate set by how well its gradient agrees with an auxiliary one.

    Chen, Ye, Pan, Xia, AAAI 2025, arXiv 2408.07343. ``reach`` is the length of the look-ahead along the auxiliary
    gradient: exactly 1.0 times the gradient in the paper's code, which ties the method to the loss's scale;
    ``normalized=True`` makes ``reach`` a radius in parameter space instead.
    """

    auxiliary: Task = EntropyTask(half=True)
    pseudo: Task = ConsistencyTask()
    reach: float = 1.0
    normalized: bool = False
    trust: Trust = SquaredTrust()

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The pseudo objective, in nats."""
        return self.pseudo(shadow, windows)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step in the paper's order: look ahead, ask there, come back, move as far as the two agree."""
        moving = shadow.moving
        entropy, auxiliary = gradient(lambda w: self.auxiliary(shadow, w), windows, moving)
        reach = self.reach / (norm(auxiliary) + 1e-12) if self.normalized else self.reach
        with displaced(moving, auxiliary, -reach):
            value, pseudo = gradient(lambda w: loss(shadow, w), windows, moving)
        require_gradient(pseudo)
        agreement = cosine(auxiliary, pseudo)
        factor = self.trust(agreement)
        assert shadow.optimizer is not None
        follow(shadow.optimizer, pseudo, factor)
        return Step(losses={"auxiliary": entropy, "loss": value}, cosine=agreement, rate=self.optimizer.rate * factor)
