"""DLTTA: dynamic learning rate for test-time adaptation (Yang et al.; TMI 2022; arXiv 2205.13723)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monai_tta.compute.distributed import mean_over_processes
from monai_tta.core.bank_shadow import BankShadow
from monai_tta.core.deep_features import logits_and_deepest, pooled
from monai_tta.core.method import Descent, Loss
from monai_tta.core.objectives import Head, full_entropy
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow

TEMPERATURE = 2.0  # of the present answer alone, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class DLTTA(Descent):
    """Go down the entropy at a learning rate that grows with how differently alike earlier windows were answered.

    Yang et al., TMI 2022, arXiv 2205.13723. A bank holds the features of a stream's windows with their answers after the step.
    The rate is multiplied by the discrepancy d: half the sum of both Kullback-Leibler divergences between the present answer,
    at a temperature of 2, and that of the ``neighbors`` whose features have the largest inner products with the present ones,
    by the mean of their logits. d has no upper limit, as published.

    It is meant for streams (reset="never"). It costs three forward passes and a backward pass of the adaptation windows. The bank
    keeps pooled features and logits of earlier patients: a few hundred numbers for each window, no image; bank_size=0 keeps
    none, and then this is entropy minimisation. It needs nothing from the source.

    Ours: a classifier's answer is one distribution; ours is that of a window's mean logits, because voxels of two patients do
    not correspond. Most voxels are certain background, so d is small where cases are alike, and so is the rate. Features are the
    network's deepest, averaged over space, where the code flattens the map. The base rate holds until ``neighbors`` windows
    are in the bank; in the code until 801 are, which few clinics would see.

    Args:
        bank_size: how many windows the bank keeps, the latest; 0 for none.
        neighbors: how many earlier windows the present one is compared with, 1 or more.

    Raises:
        ValueError: for choices out of range.
    """

    bank_size: int = 40
    neighbors: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bank_size < 0 or self.neighbors < 1:
            raise ValueError(f"bank_size is 0 or more and neighbors 1 or more, found {self.bank_size} and {self.neighbors}")

    @property
    def is_continual(self) -> bool:
        """Yes: without earlier windows the rate is the base rate."""
        return True

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow with an empty bank."""
        shadow = BankShadow(source, head, self.select, self.statistics, self.blend, self.bank_size)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean entropy per voxel, in nats."""
        return full_entropy(shadow(windows), shadow.head)

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Compare the windows with the bank, take ``steps`` steps at the rate found, and add the windows to the bank."""
        assert isinstance(shadow, BankShadow)
        if not self.bank_size:
            return super().adapt(shadow, windows, loss)
        keys, answers = _described(shadow, windows)
        found = self._discrepancy(shadow, keys, answers)
        steps = tuple(self._step(shadow, windows, loss, found) for _ in range(self.steps))
        _, after = _described(shadow, windows)
        shadow.bank.extend(zip(keys, after, strict=True))
        return steps

    def _step(self, shadow: Shadow, windows: Tensor, loss: Loss, discrepancy: float | None) -> Step:
        """One step at the base rate times the discrepancy; at the base rate for None."""
        if discrepancy is None:
            return self.step(shadow, windows, loss)
        value, gradient = shadow.gradient(loss, windows)
        shadow.step_along(gradient, discrepancy)
        lr = self.optimizer.lr * discrepancy
        return Step(losses={"loss": value}, lr=lr, notes={"discrepancy": discrepancy})

    def _discrepancy(self, shadow: BankShadow, keys: Tensor, answers: Tensor) -> float | None:
        """The mean over windows of the discrepancy, in nats; None while the bank holds too few."""
        known = [(key, answer) for key, answer in shadow.bank if key.shape == keys[0].shape]
        if len(known) < self.neighbors:
            return None
        earlier, logits = (torch.stack(parts).to(keys) for parts in zip(*known, strict=True))
        nearest = (keys @ earlier.T).topk(self.neighbors, 1).indices
        past = logits[nearest].mean(1).log_softmax(-1)
        present = (answers / TEMPERATURE).log_softmax(-1)
        # Half of KL(present | past) + KL(past | present), for each question.
        each = ((present.exp() - past.exp()) * (present - past)).sum(-1) / 2
        value = float(each.mean())
        return mean_over_processes(value, [keys])[0] if shadow.over_processes else value


@torch.no_grad()
def _described(shadow: Shadow, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled deepest features ``(N, F)`` and mean logits ``(N, Q, C)`` of windows; sigmoid's two answers are 0 and the logit."""
    keys, answers = [], []
    for window in windows.split(1):
        logits, features = logits_and_deepest(shadow, window)
        mean = pooled(logits)
        keys.append(pooled(features))
        answers.append(mean[:, None] if shadow.head == "softmax" else torch.stack([torch.zeros_like(mean), mean], 2))
    return torch.cat(keys), torch.cat(answers)
