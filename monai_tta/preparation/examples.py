"""What a judge learns from: cases whose labels are known, without their pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.core.label_free_metrics import hard_masks
from monai_tta.quality.gain_predictor import Floats


@dataclass(frozen=True, eq=False)
class CalibrationCase:
    """One calibration case: ``group`` (the image it was made from), the tables ``(2, features)`` of the source's own answers
    before others are heard and ``(answers, features)`` of all, the gain in Dice of each answer over the plain one, and what
    is needed to score any mixture."""

    group: int
    first: Floats
    table: Floats
    gains: Floats
    plain: float
    _answers: NDArray[np.float16]
    _truth: NDArray[np.bool_]
    _counts: NDArray[np.int64]
    _head: str

    def gain_of(self, shares: Floats) -> float:
        """Gain in Dice of the mixture of the answers with these shares; 0 for shares of zero, which mean the plain answer."""
        if shares.sum() <= 0:
            return 0.0
        mixed = np.tensordot(shares, self._answers.astype(np.float64), 1)
        return _dice(_chosen(mixed, self._head), self._truth, self._counts) - self.plain


@dataclass
class CalibrationSet:
    """Calibration cases of one source network, ``name``."""

    name: str
    known: list[CalibrationCase] = field(default_factory=list)

    def add(self, group: int, first: Tensor, table: Tensor, answers: Tensor, plain: Tensor, truth: Tensor, head: str) -> None:
        """Keep a case; one whose truth is empty has no Dice and teaches nothing.

        Args:
            group: the image that was distorted.
            first: ``(2, features)``, of the source's own answers before others are heard.
            table: ``(answers, features)``.
            answers: probabilities ``(answers, N, K, *spatial)``.
            plain: the source's own, ``(N, K, *spatial)``.
            truth: structures ``(N, K', *spatial)``, boolean.
            head: "softmax" or "sigmoid".
        """
        counts = truth.transpose(0, 1).flatten(1).sum(1).numpy().astype(np.int64)
        if not counts.any():
            return
        flat = answers.transpose(1, 2).flatten(2)  # (answers, K, voxels)
        mask = truth.transpose(0, 1).flatten(1)
        front = plain.transpose(0, 1).flatten(1)
        # Where all answers are background, so is every mixture of them: no Dice depends on it.
        matters = mask.any(0) | (hard_masks(front[None], head)[0]).any(0)
        for one in flat:
            matters |= hard_masks(one[None], head)[0].any(0)
        kept, label = flat[:, :, matters].half().numpy(), mask[:, matters].numpy()
        base = _dice(_chosen(front[:, matters].double().numpy(), head), label, counts)
        gains = np.array([_dice(_chosen(p.astype(np.float64), head), label, counts) - base for p in kept])
        self.known.append(CalibrationCase(group, first.numpy(), table.numpy(), gains, base, kept, label, counts, head))


def _chosen(p: Floats, head: str) -> NDArray[np.bool_]:
    """Probabilities ``(K, voxels)`` -> structures ``(K', voxels)``."""
    mask: NDArray[np.bool_] = hard_masks(torch.from_numpy(p)[None], head)[0].numpy()
    return mask


def _dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_], counts: NDArray[np.int64]) -> float:
    """Mean Dice over the structures that are there."""
    there = counts > 0
    both = 2 * (mask & truth).sum(1)[there]
    return float((both / (mask.sum(1) + counts)[there]).mean())
