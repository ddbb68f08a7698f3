"""Signals: single figures that may tell good answers from bad ones without a label, each with the direction that should be good.

A table of cases has a column for each signal that could be measured. `SIGNALS` is the list of what is known. Another one is an
entry there and a figure in `monai_tta.evaluation.case_signals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from monai_tta.core.label_free_metrics import foreground_fraction, mean_entropy
from monai_tta.core.objectives import Head
from monai_tta.core.record import StructureQuality
from monai_tta.quality.features import TINY


@dataclass(frozen=True)
class Signal:
    """One signal.

    Args:
        name: of its column.
        about: what it is, in a few words.
        higher_is_better: whether a higher figure should mean a better answer.
        of_image: whether it belongs to the image and is the same for every answer, or else to one answer.
        predicts: the figure that it expects, "dice" or "surface", which has columns for each structure, too: see
            `structure_columns`. Empty for other signals.
    """

    name: str
    about: str
    higher_is_better: bool
    of_image: bool = False
    predicts: str = ""

    def confidence(self, figure: float) -> float:
        """The figure, turned so that higher should be better.

        Args:
            figure: as measured.
        """
        return figure if self.higher_is_better else -figure


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
PREDICTED_SURFACE = "predicted surface"
RANKING = "ranking"
SIGNALS = (
    Signal(PREDICTED, "what the quality predictor expects, mean over structures", True, predicts="dice"),
    Signal(PREDICTED_SURFACE, "the same of the share of surface within 1 voxel", True, predicts="surface"),
    Signal(RANKING, "the mean of predicted Dice, and of the mean and the least Dice of views; `run` sorts masks by it", True),
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
    """The columns of what is expected of one structure, and of the lower and upper end of its interval.

    Args:
        name: of a signal that predicts a figure of each structure.
        structure: its number, from 1.

    >>> structure_columns("predicted Dice", 2)
    ('predicted Dice 2', 'predicted Dice 2, low', 'predicted Dice 2, high')
    """
    own = f"{name} {structure}"
    return own, f"{own}, low", f"{own}, high"


def true_surface_column(structure: int) -> str:
    """The column of a structure's true share of surface within 1 voxel.

    Args:
        structure: its number, from 1.
    """
    return f"true surface {structure}"


def predicted_quality(predictions: Sequence[StructureQuality]) -> dict[str, float]:
    """The columns of expected Dice and surface with their intervals; empty without a prediction.

    Args:
        predictions: one for each structure.
    """
    found: dict[str, float] = {}
    for one in predictions:
        found |= zip(structure_columns(PREDICTED, one.structure), (one.dice, one.low, one.high), strict=True)
        found |= zip(structure_columns(PREDICTED_SURFACE, one.structure), (one.nsd, one.nsd_low, one.nsd_high), strict=True)
    if not predictions:
        return {}
    n = len(predictions)
    means = {PREDICTED: sum(one.dice for one in predictions) / n, PREDICTED_SURFACE: sum(one.nsd for one in predictions) / n}
    return {**means, RANKING: sum(one.ranking for one in predictions) / n, **found}


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
