"""Which networks answer the rest of an image, once `Careful` has decided on its adaptation windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from monai_tta.core.method import AdaptationMethod
from monai_tta.methods.statistics import Statistics
from monai_tta.quality.candidates import CandidatePool, Contribution, Trial, adapted_shadow

Rest = Literal["mixture", "un-augmented", "one network"]
WAYS: tuple[Rest, ...] = ("mixture", "un-augmented", "one network")


def contributions(
    rest: Rest, kept: Sequence[tuple[Trial, float]], pool: CandidatePool, windows: Tensor
) -> tuple[list[Contribution], dict[str, float]]:
    """The networks that answer each window of the rest, with their weights; and what the record should say of them.

    Args:
        rest: "mixture" for every answer that has a weight. "un-augmented" for those that are not averaged over views, or all
            where there are only averages. "one network" for a single one: its blend is the mean of the answers' blends, by their
            weights. Where an answer is of no blend of the volume's statistics, "one network" does as "un-augmented".
        kept: answers and their weights, which sum to 1.
        pool: the shadow that the method began.
        windows: the adaptation windows ``(N, C, *spatial)``, of which a new network takes its statistics.
    """
    if rest == "one network" and (blend := _mean_blend([(trial.candidate, weight) for trial, weight in kept])) is not None:
        shadow = adapted_shadow(Statistics(statistics="volume", blend=blend), pool, windows)
        return [Contribution(shadow, averaged=False, weight=1.0)], {"blend of the rest": blend}
    unaugmented = [(trial, weight) for trial, weight in kept if not trial.answer.averaged]
    chosen = kept if rest == "mixture" or not unaugmented else unaugmented
    return [Contribution(trial.shadow, trial.answer.averaged, weight) for trial, weight in chosen], {}


def _mean_blend(kept: Sequence[tuple[AdaptationMethod, float]]) -> float | None:
    """The mean share of the volume's statistics; None where an answer is of something else."""
    total = 0.0
    for candidate, weight in kept:
        if type(candidate) is not Statistics or candidate.statistics == "window":
            return None
        total += weight * (candidate.blend if candidate.statistics == "volume" else 0.0)
    return min(total, 1.0)
