"""All figures of how well one confidence ranks cases. Definitions: `monai_tta.quality.failure_detection`."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from monai_tta.quality.failure_detection import (
    augrc,
    aurc,
    case_rows,
    excess_aurc,
    failure_auroc,
    normalized_excess_aurc,
    rank_correlation,
)


@dataclass(frozen=True)
class RankingFigures:
    """How well one confidence ranks cases, see the functions of the same names; NaN where a figure is not defined.

    Args:
        aurc: in [0, 1].
        excess_aurc: e-AURC, about 0 or more.
        normalized_excess_aurc: 0 is ideal, 1 is random.
        augrc: in [0, 0.5].
        failure_auroc: in [0, 1].
        spearman: with the quality, in [-1, 1].
    """

    aurc: float
    excess_aurc: float
    normalized_excess_aurc: float
    augrc: float
    failure_auroc: float
    spearman: float


def ranking_figures(confidence: ArrayLike, quality: ArrayLike, accept: float) -> RankingFigures:
    """All figures of one confidence.

    Args:
        confidence: ``(N,)``.
        quality: ``(N,)``, in [0, 1], such as the mean Dice of each case. The risk is one minus this.
        accept: a case of less quality than this has failed.

    Raises:
        ValueError: for rows of different lengths, without a case, or with a NaN.
    """
    own, good = case_rows(confidence, quality)
    risk = 1 - good
    return RankingFigures(
        aurc(own, risk),
        excess_aurc(own, risk),
        normalized_excess_aurc(own, risk),
        augrc(own, risk),
        failure_auroc(own, good < accept),
        rank_correlation(own, good),
    )
