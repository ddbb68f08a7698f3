"""Fine-tune a network on a few scribbled cases of a new scanner: soft labels, and consistency under masks (MaCo's two parts)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.masked_context import MaskedContextTask
from monai_tta.core.objectives import head_of_channels, labels, weighted_cross_entropy
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.selection import NormAffine, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import Task
from monai_tta.inference.network import unwrap
from monai_tta.preparation.scribbled_cases import NEAR, ScribbledCase, checked_cases, split_windows

__all__ = ["Finetuned", "FinetuneSettings", "HeldOut", "check_finetuning", "finetune_on_scribbles"]

Cases = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """What moves, which way and how far. All defaults are ours; MaCo (arXiv 2408.12814) trains a network from the beginning.

    Args:
        select: which parameters move. A few cases can teach a few numbers: scale and shift of normalisation layers unless told
            otherwise.
        optimizer: the optimiser and its learning rate.
        steps: how many steps, 1 or more.
        windows: how many windows of a case each step learns from, 1 or more. One, where a window is the whole image.
        least_weight: voxels of less weight are not learnt from, in [0, 1]. There are many of them and little is known of them:
            around a short scribble in 3D, half of all weight is farther away than 3.9 half distances.
        consistency: a loss without labels that is added.
        consistency_weight: of that loss, 0 or more; 0 does without it.
        seed: of all random draws.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = NormAffine()
    optimizer: OptimizerSpec = Adam(lr=1e-3)
    steps: int = 100
    windows: int = 4
    least_weight: float = 0.5
    consistency: Task = MaskedContextTask()
    consistency_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.windows < 1 or not 0 <= self.least_weight <= 1 or self.consistency_weight < 0:
            raise ValueError(
                "steps and windows are 1 or more, least_weight is in [0, 1] and consistency_weight 0 or more, found "
                f"{self.steps}, {self.windows}, {self.least_weight} and {self.consistency_weight}"
            )


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A fine-tuned network.

    Args:
        state: the weights, by the names of the network's ``state_dict``, for a new checkpoint.
        losses: the loss of each step before it was taken, in nats.
        n_moving: how many numbers were free to move.
        weight_distance: Euclidean distance of these from where they were.
    """

    state: dict[str, Tensor]
    losses: tuple[float, ...]
    n_moving: int
    weight_distance: float


@dataclass(frozen=True)
class HeldOut:
    """One case, answered by the network as it was and as fine-tuned on the other cases.

    Args:
        loss_before: weighted cross-entropy to the soft labels, in nats, of the network as it was.
        loss_after: the same of the fine-tuned one.
        agreement_before: share of the voxels near a scribble (half a distance or nearer) that have its label, as it was.
        agreement_after: the same of the fine-tuned one.
    """

    loss_before: float
    loss_after: float
    agreement_before: float
    agreement_after: float


def finetune_on_scribbles(
    network: nn.Module,
    cases: Cases,
    *,
    head: Literal["softmax", "sigmoid", "auto"] = "auto",
    roi_size: Any = -1,
    settings: FinetuneSettings = FinetuneSettings(),
    progress: Callable[[int, int], None] | None = None,
) -> Finetuned:
    """Fine-tune a copy of a network on scribbled cases; the network itself stays as it is.

    Each step learns from windows of one case, the cases in turn. Half of the work is to answer near the scribbles as the soft
    labels say; the other is to answer windows with blanked patches as whole windows. Each window holds a scribble, of each class
    equally often, at a place in the window that is drawn. The network learns as it answers later: in eval mode, with the
    normalisation statistics of its checkpoint.

    Whether it helps is not known from the cases that it learnt from: see `check_finetuning`.

    Args:
        network: the trained network, on the device on which it is to learn.
        cases: dictionaries with ``image`` ``(C, *spatial)``, preprocessed as the network needs it, and on the same grid
            ``soft_label`` ``(K, *spatial)`` and ``weight`` ``(1, *spatial)``, as `ScribbleToSoftLabeld` makes them.
        head: what the logits stand for. "auto": one channel is "sigmoid", more are "softmax".
        roi_size: the size of windows, as for `AdaptiveInferer`; the whole image unless told otherwise.
        settings: what moves, which way and how far.
        progress: called with the number of steps that are done, and of all.

    Returns:
        the weights for a new checkpoint, and what was done.

    Raises:
        ValueError: for no cases, cases that do not fit each other or the network, or a selection that a checkpoint cannot hold.
        CannotAdapt: for a network in which nothing is selected, or whose layers cannot be seen.
        FloatingPointError: when a gradient is not finite.
    """
    source = unwrap(network)
    shadow, losses = _trained(source, checked_cases(cases, settings.least_weight), head, roi_size, settings, progress)
    kept = shadow.module.state_dict()
    return Finetuned(
        state={name: kept[name].detach().to(old.dtype, copy=True) for name, old in source.state_dict().items()},
        losses=tuple(losses),
        n_moving=sum(tensor.numel() for tensor in shadow.moving),
        weight_distance=shadow.weight_distance,
    )


def check_finetuning(
    network: nn.Module,
    cases: Cases,
    *,
    head: Literal["softmax", "sigmoid", "auto"] = "auto",
    roi_size: Any = -1,
    settings: FinetuneSettings = FinetuneSettings(),
) -> Iterator[HeldOut]:
    """Leave out each case in turn, fine-tune on the others, and compare on the one left out.

    It takes as long as fine-tuning once for each case. Arguments and errors are those of `finetune_on_scribbles`; there must be
    two cases.

    Args:
        network: the source; never changed.
        cases: preprocessed images with their scribbles.
        head: what the channels stand for, "softmax" or "sigmoid".
        roi_size: of windows, in voxels.
        settings: how to fine-tune.

    Yields:
        for each case, how it was answered before and after.
    """
    source = unwrap(network)
    checked = checked_cases(cases, settings.least_weight)
    if len(checked) < 2:
        raise ValueError("to leave one case out takes two cases or more")
    for number, case in enumerate(checked):
        others = [other for k, other in enumerate(checked) if k != number]
        shadow, _ = _trained(source, others, head, roi_size, settings, None)
        unchanged = Shadow(source, shadow.head, None)
        (loss_before, before), (loss_after, after) = (_measured(each, case, roi_size) for each in (unchanged, shadow))
        yield HeldOut(loss_before=loss_before, loss_after=loss_after, agreement_before=before, agreement_after=after)


def _trained(
    source: nn.Module,
    cases: list[ScribbledCase],
    head: Literal["softmax", "sigmoid", "auto"],
    roi_size: Any,
    settings: FinetuneSettings,
    progress: Callable[[int, int], None] | None,
) -> tuple[Shadow, list[float]]:
    """A shadow of the network that has learnt, and the losses."""
    channels = cases[0].channels
    resolved = head_of_channels(channels) if head == "auto" else head
    generator = torch.Generator().manual_seed(settings.seed)
    places = [case.places(resolved) for case in cases]
    losses: list[float] = []
    with torch.inference_mode(False), torch.enable_grad():
        shadow = Shadow(source, resolved, settings.select)
        if added := set(shadow.names) - {name for name, _ in source.named_parameters(remove_duplicate=False)}:
            raise ValueError(f"{settings.select!r} adds {len(added)} tensors, which no checkpoint of {shadow.kind} can hold")
        shadow.seed(settings.seed)
        shadow.optimizer = settings.optimizer.build(shadow.moving)
        for step in range(settings.steps):
            number = step % len(cases)
            windows = cases[number].draw_windows(places[number], roi_size, settings.windows, generator)
            value, gradient = shadow.gradient(_Loss(settings, channels), windows.to(next(source.parameters())))
            shadow.step_along(gradient)
            losses.append(value)
            if progress is not None:
                progress(step + 1, settings.steps)
    return shadow, losses


@dataclass(frozen=True)
class _Loss:
    """The loss of windows that hold image, soft label and weight as channels."""

    settings: FinetuneSettings
    channels: int  # of the soft label

    def __call__(self, shadow: Shadow, windows: Tensor) -> Tensor:
        images, target, weight = split_windows(windows, self.channels)
        loss = weighted_cross_entropy(shadow(images), target, weight, shadow.head)
        if self.settings.consistency_weight:
            loss = loss + self.settings.consistency_weight * self.settings.consistency(shadow, images)
        return loss


@torch.no_grad()
def _measured(shadow: Shadow, case: ScribbledCase, roi_size: Any) -> tuple[float, float]:
    """Weighted cross-entropy of a case, in nats, and the share of voxels near a scribble that have its label."""
    like = next(shadow.module.parameters())
    image, target, weight = (part.to(like) for part in case.parts())
    logits: Any = SlidingWindowInferer(roi_size, overlap=0.5)(image, shadow)
    logits = at_least_float32(logits)
    loss = weighted_cross_entropy(logits, target.to(logits), weight.to(logits) / weight.mean(), shadow.head)
    told = target.argmax(1, keepdim=True) if shadow.head == "softmax" else target > 0.5
    agrees = (labels(logits, shadow.head) == told).all(1, keepdim=True)
    return float(loss), float(agrees[weight >= NEAR].float().mean())
