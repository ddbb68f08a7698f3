"""GraTa: gradient-aligned adaptation (Chen, Ye, Pan, Xia; AAAI 2025; arXiv 2408.07343)."""

from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from monai_tta.core.gradient_agreement import cosines, mean_direction_of, without_conflict
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
    and a forward pass of each view; each of ``more`` one of both. Variants of ours: ``more`` to ``projected``.

    Args:
        auxiliary: the objective that shows where to look ahead; half the entropy in the paper's code.
        pseudo: the objective to go down; consistency between a restyled window and the average over views.
        look_ahead: how far to look along the auxiliary gradient, in multiples of it: 1.0 in the paper's code.
        more: further auxiliary objectives. The mean of all unit gradients, at their mean length, is the auxiliary gradient.
        normalized: take ``look_ahead`` as a distance in parameter space instead (SAM, ICLR 2021), whatever the loss's scale.
        per_layer: whether each layer has its own cosine and rate; the record has the cosine of all and the mean rate.
        projected: whether the gradient loses its part against the auxiliary one where the two conflict (PCGrad, NeurIPS 2020).
        trust: the factor on the learning rate, from the cosine of the two gradients.
    """

    auxiliary: Task = EntropyTask(half=True)
    pseudo: Task = ConsistencyTask()
    look_ahead: float = 1.0
    more: tuple[Task, ...] = ()
    normalized: bool = False
    per_layer: bool = False
    projected: bool = False
    trust: Trust = SquaredTrust()

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The pseudo objective, in nats."""
        return self.pseudo(shadow, windows)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step in the paper's order: look ahead, take the gradient there, come back, move as far as the two agree."""
        losses, auxiliary = mean_direction_of((self.auxiliary, *self.more), shadow, windows)
        distance = self.look_ahead / (length(auxiliary) + 1e-12) if self.normalized else self.look_ahead
        with shadow.displaced(auxiliary, -distance):
            value, pseudo = shadow.gradient(loss, windows)
        agreement, layers = cosine(auxiliary, pseudo), shadow.layers(self.per_layer)
        angles = cosines(auxiliary, pseudo, layers) if self.per_layer else {layers[0]: agreement}
        trust = {layer: self.trust(angle) for layer, angle in angles.items()}
        direction = without_conflict(pseudo, auxiliary, layers) if self.projected else pseudo
        shadow.step_along(direction, [trust[layer] for layer in layers])
        return Step(losses=losses | {"loss": value}, cosine=agreement, lr=self.optimizer.lr * fmean(trust.values()))
