"""How the learned optimiser of MGG is trained: that its step on one image lowers the unlabelled loss on the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from monai_tta.core.learned_optimizer import Memory, empty_memory, propose
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.core.shadow import Shadow
from monai_tta.methods.mgg import MGG, feature_loss

# Not blur, light, contrast and remap, which are most like the simulated scanners that networks are compared on.
SHIFTS = ("gain", "gamma", "noise")


@dataclass(frozen=True, kw_only=True)
class OptimizerTraining:
    """How a learned optimiser is trained. The rates are those of the authors' code.

    Args:
        images: how many source images are used at most, the first ones.
        size: how many distorted images are made of them, once; the paper has 128.
        epochs: how often each of them is stepped on; the paper has 40.
        windows: how many windows of each, 1 or more; the paper's batches have 2 images.
        lr: the learning rate at which the network's tensors move.
        memory_lr: the learning rate of Adam, which trains the learned optimiser.
        seed: of the first weights, the distortions and the order of images.
        method: its ``select``, ``statistics``, ``blend`` and ``discrepancy`` are used.

    Raises:
        ValueError: for numbers below 1.
    """

    images: int = 32
    size: int = 32
    epochs: int = 10
    windows: int = 2
    lr: float = 1e-4
    memory_lr: float = 1e-2
    seed: int = 0
    method: MGG = MGG()

    def __post_init__(self) -> None:
        for name in ("images", "size", "epochs", "windows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, found {getattr(self, name)}")

    @property
    def steps(self) -> int:
        """How many steps training has."""
        return self.size * self.epochs


class OptimizerTrainer:
    """Teaches the learned optimiser that its step on one batch lowers the loss on the next.

    Credit is one step long, as in the authors' code. The gradient of a batch's loss reaches the moving tensors, and through the
    last step that moved them the learned optimiser. Memories enter a step as constants.

    Args:
        shadow: of the source; its moving tensors move while training lasts.
        start: untrained weights, with the statistics of the source's features.
        settings: how long, and at which rates.
    """

    def __init__(self, shadow: Shadow, start: TrainedOptimizer, settings: OptimizerTraining) -> None:
        self.shadow = shadow
        self.start = start
        self.settings = settings
        device = shadow.moving[0].device
        self.weights = {name: w.to(device).requires_grad_() for name, w in start.weights.items()}
        self.adam = torch.optim.Adam(self.weights.values(), lr=settings.memory_lr)
        self.losses: list[float] = []

    def run(self, batches: Sequence[Tensor], n_images: int) -> Iterator[int | TrainedOptimizer]:
        """All epochs, over the windows of each image; ``n_images`` is how many source images they were made of.

        Keeps the weights of the end of the epoch with the lowest mean loss (ours). The authors choose with labels.

        Yields:
            after each step, how many are done; at last the learned optimiser.

        Raises:
            FloatingPointError: when the loss is not finite.
        """
        best: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(self.settings.seed)
        done = 0
        for _ in range(self.settings.epochs):
            losses = []
            for loss in self._epoch([batches[k] for k in torch.randperm(len(batches), generator=generator).tolist()]):
                losses.append(loss)
                done += 1
                yield done
            self.losses.append(sum(losses) / len(losses))
            if self.losses[-1] == min(self.losses):
                best = {name: w.detach().cpu().clone() for name, w in self.weights.items()}
        yield replace(self.start, weights=best, about=self._about(len(batches), n_images))

    def _epoch(self, batches: Sequence[Tensor]) -> Iterator[float]:
        """One pass over the batches, from the source's tensors (ours: the authors go on from the last epoch's)."""
        moving = self.shadow.moving
        with torch.no_grad():
            for tensor, start in zip(moving, self.shadow.start, strict=True):
                tensor.copy_(start)
        memories: list[Memory] = [empty_memory(self.weights, tensor.detach().flatten().float()) for tensor in moving]
        taken: list[Tensor | None] = [None] * len(moving)  # the directions of the last step, with their graph
        for windows in batches:
            with torch.enable_grad():
                loss = feature_loss(self.shadow, windows, self.start, self.settings.method.discrepancy)
                gradient = torch.autograd.grad(loss, moving, allow_unused=True)
                if not bool(loss.isfinite()):
                    raise FloatingPointError("the loss is not finite; nothing was learnt")
                self._learn(taken, gradient)
                taken = [None] * len(moving)
                for k, (tensor, part) in enumerate(zip(moving, gradient, strict=True)):
                    if part is not None:
                        direction, memory = propose(self.weights, memories[k], part.flatten().float())
                        memories[k] = {name: x if name == "step" else x.detach() for name, x in memory.items()}
                        taken[k] = direction
                        with torch.no_grad():
                            tensor.sub_(self.settings.lr * direction.view(tensor.shape).to(tensor.dtype))
            yield float(loss.detach())

    def _learn(self, taken: Sequence[Tensor | None], gradient: Sequence[Tensor | None]) -> None:
        """One step of Adam: the loss's gradient through the step that led to these tensors."""
        pairs = [(d, g) for d, g in zip(taken, gradient, strict=True) if d is not None and g is not None]
        if not pairs:
            return
        change = sum((-self.settings.lr * direction * part.flatten().float()).sum() for direction, part in pairs)
        grads = torch.autograd.grad(change, list(self.weights.values()), allow_unused=True)  # type: ignore[arg-type]
        for weight, grad in zip(self.weights.values(), grads, strict=True):
            weight.grad = grad
        self.adam.step()

    def _about(self, n_batches: int, n_images: int) -> dict[str, Any]:
        settings = self.settings
        return {
            "network": self.start.network,
            "moving numbers": sum(tensor.numel() for tensor in self.shadow.moving),
            "selected": self.shadow.selected,
            "images": n_images,
            "distorted images": n_batches,
            "shifts": list(SHIFTS),
            "epochs": settings.epochs,
            "seed": settings.seed,
            "mean loss of each epoch": [round(loss, 6) for loss in self.losses],
        }
