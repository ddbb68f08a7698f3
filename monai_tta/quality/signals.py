"""Signals: single figures that may tell good answers from bad ones without a label, each with the direction that should be good.

A table of cases has a column for each signal that could be measured. `SIGNALS` is the list of what is known. Another one is an
entry there and a figure in `monai_tta.evaluation.case_signals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from monai_tta.core.label_free_metrics import foreground_fraction, mean_entropy
from monai_tta.core.objectives import Head
from monai_tta.quality.features import TINY


@dataclass(frozen=True)
class Signal:
    """One signal.

    Args:
        name: of its column.
        about: what it is, in a few words.
        higher_is_better: whether a higher figure should mean a better answer.
        of_image: whether it belongs to the image and is the same for every answer, or else to one answer.
        predicts_dice: whether it is an expected Dice, which has columns for each structure, too: see `structure_columns`.
    """

    name: str
    about: str
    higher_is_better: bool
    of_image: bool = False
    predicts_dice: bool = False

    def confidence(self, figure: float) -> float:
        """The figure, turned so that higher should be better.

        Args:
            figure: as measured.
        """
        return figure if self.higher_is_better else -figure


class PredictedDice(Protocol):
    """What is expected of one structure's mask: its number from 1, its Dice, and an interval for it, all in [0, 1]."""

    @property
    def structure(self) -> int:
        """Its number."""

    @property
    def dice(self) -> float:
        """The expected Dice."""

    @property
    def low(self) -> float:
        """The lower end of the interval."""

    @property
    def high(self) -> float:
        """The upper end."""


ENTROPY = "entropy"
ENTROPY_PER_FOREGROUND = "entropy per foreground"
MAX_PROBABILITY = "max probability"
VIEWS = "pairwise Dice of views"
ALL_VIEWS = "pairwise Dice of all views"
BLENDS = "pairwise Dice of blends"
DISTANCE = "distance of layers"
VOLUME = "volume"
REFERENCE_VOLUME = "volume against reference"
PREDICTED = "predicted Dice"
SIGNALS = (
    Signal(PREDICTED, "what the quality predictor expects, mean over structures", True, predicts_dice=True),
    Signal(ENTROPY, "mean over the image's voxels, in nats", False),
    Signal(ENTROPY_PER_FOREGROUND, "the same per voxel of foreground, in nats", False),
    Signal(MAX_PROBABILITY, "of the likeliest channel, mean over voxels", True),
    Signal(VIEWS, "windows in the poses that the source was trained on, segmented alike", True),
    Signal(ALL_VIEWS, "the same in more poses than it was trained on", True),
    Signal(BLENDS, "windows under several blends of statistics, segmented alike", True, of_image=True),
    Signal(DISTANCE, "of the windows' statistics from the source's, mean over layers", False, of_image=True),
    Signal(VOLUME, "of all structures that are found", True),
    Signal(REFERENCE_VOLUME, "how far outside the source's own cases, in widths of their range", False),
)


def structure_columns(name: str, structure: int) -> tuple[str, str, str]:
    """The columns of one structure's expected Dice, and of the lower and upper end of its interval.

    Args:
        name: of a signal that predicts Dice.
        structure: its number, from 1.

    >>> structure_columns("predicted Dice", 2)
    ('predicted Dice 2', 'predicted Dice 2, low', 'predicted Dice 2, high')
    """
    own = f"{name} {structure}"
    return own, f"{own}, low", f"{own}, high"


def predicted_dice(predictions: Sequence[PredictedDice]) -> dict[str, float]:
    """The columns of expected Dice with their intervals; empty without a prediction.

    Args:
        predictions: one for each structure.
    """
    found: dict[str, float] = {}
    for one in predictions:
        found |= zip(structure_columns(PREDICTED, one.structure), (one.dice, one.low, one.high), strict=True)
    return {PREDICTED: sum(one.dice for one in predictions) / len(predictions), **found} if predictions else {}


def max_probability(p: Tensor, head: Head) -> float:
    """Mean over voxels of the likeliest channel's probability, in [0, 1]: the maximum softmax of Hendrycks and Gimpel, ICLR 2017.

    For "sigmoid" a channel's likelier answer of yes and no, averaged over channels.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    likeliest = p.amax(1) if head == "softmax" else torch.maximum(p, 1 - p)
    return float(likeliest.mean())


def entropy_per_foreground(p: Tensor, head: Head) -> float:
    """Mean entropy over mean probability of foreground, in nats: about the entropy per voxel of foreground.

    Args:
        p: probabilities ``(N, K, *spatial)``, in [0, 1].
        head: what the channels stand for, "softmax" or "sigmoid".
    """
    return mean_entropy(p, head) / (foreground_fraction(p, head) + TINY)


def pairwise_dice(answers: Sequence[Tensor]) -> float:
    """Mean Dice of each two of several answers, over structures: the strongest simple baseline of Zenk et al. (arXiv 2406.03323).

    As there, two empty masks agree (1). Roy et al., NeuroImage 2019 had it first, for samples of dropout.

    Args:
        answers: at least two; boolean ``(structures, voxels)`` each.

    Returns:
        a number in [0, 1].

    Raises:
        ValueError: for fewer than two answers.
    """
    if len(answers) < 2:
        raise ValueError(f"pairwise Dice needs at least two answers, found {len(answers)}")
    found = []
    for one, other in combinations(answers, 2):
        both = (one & other).sum(1)
        total = one.sum(1) + other.sum(1)
        found.append(torch.where(total > 0, 2 * both / total.clamp_min(1), 1.0).double().mean())
    return float(torch.stack(found).mean())
