"""Choose a gain predictor's margin from what it predicts for cases that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_tta.preparation.examples import CalibrationCase
from monai_tta.quality.gain_predictor import Floats
from monai_tta.quality.mixture_weights import (
    RISK_AVERSION,
    Discount,
    PredictedGains,
    candidate_weights,
    exceeds_margin,
    is_gamble,
    is_worth_it,
)
from monai_tta.reporting.significance import HARM

GRAVE_LOSS = 0.05
MARGINS = tuple(1 + k / 4 for k in range(25))
TEMPERATURE = 0.03
LOSS_LIMIT = GRAVE_LOSS  # a mixture whose gain falls two spreads short must not lose gravely
SURE_SPREADS = RISK_AVERSION  # a mixture whose gain falls two spreads short, and is still a gain, may be small
DISCOUNT: Discount = "relative spread"


def choose_margin(
    cases: Sequence[CalibrationCase], predictions: Sequence[Sequence[PredictedGains]], harm: float
) -> tuple[float, Floats]:
    """Choose the least of `MARGINS` that keeps harm and grave losses rare; where none does, the largest.

    *Harm*: conformal risk control (Angelopoulos et al. 2024, arXiv 2208.02814, eq. 4), ``(n R + 1) / (n + 1) <= harm``, where R
    is the share of the n cases that lose more than `HARM`. Cases were held out in several ways (repeated cross-fitting,
    Chernozhukov et al. 2018, section 3.4), and R is the mean over these.

    *Grave losses*: at most a quarter of ``harm`` may be expected to lose more than `GRAVE_LOSS`. So few cases do that their count
    is luck. In its place stands the sum of each adapted case's chance of it, see `chances_of_grave_loss`.

    Args:
        cases: with known labels.
        predictions: for each way to hold cases out, and each case, by a forest that has not seen it.
        harm: the wanted share.

    Returns:
        the margin, and the true gain of each case in each way ``(ways, cases)`` with it: 0 where the case is left unadapted,
        because its margin or its expected gain is too small, or because it is a gamble.
    """
    n = len(cases)
    weights = [[candidate_weights(predicted, TEMPERATURE) for predicted in way] for way in predictions]
    true_gains = np.array([[case.gain_of(w) for case, w in zip(cases, way, strict=True)] for way in weights])
    expected, spreads = _of_mixtures(weights, predictions)
    chances = chances_of_grave_loss(true_gains, expected, spreads)
    is_allowed = ~np.array(
        [
            [is_gamble(w, predicted, LOSS_LIMIT) for w, predicted in zip(*way, strict=True)]
            for way in zip(weights, predictions, strict=True)
        ]
    )
    for margin in MARGINS:
        is_sure = np.array([[exceeds_margin(predicted, margin) for predicted in way] for way in predictions])
        is_adapted = is_sure & is_allowed
        kept = np.where(is_adapted, true_gains, 0.0)
        harmed = n * np.mean(kept < -HARM)
        grave = np.mean(np.where(is_adapted, chances, 0.0))
        if (harmed + 1) / (n + 1) <= harm and grave <= harm / 4:
            break
    # Small expected gains count while the margin is chosen: without them it would be less cautious with the cases that remain.
    is_enough = np.array(
        [
            [is_worth_it(w, predicted, SURE_SPREADS) for w, predicted in zip(*way, strict=True)]
            for way in zip(weights, predictions, strict=True)
        ]
    )
    return margin, np.where(is_enough, kept, 0.0)


def chances_of_grave_loss(true_gains: Floats, expected: Floats, spreads: Floats) -> Floats:
    """Each mixture's chance to lose more than `GRAVE_LOSS`, were its error like those of the others, in its own spreads.

    The errors are ``(true - expected) / spread`` of all mixtures, put in the place of each other: bootstrapped residuals (Efron
    1979, section 7), all of them instead of a sample.

    Args:
        true_gains: of mixtures, in Dice, of any shape.
        expected: their expected gains.
        spreads: of these; 0 where there is no mixture, which then has no error and no chance.

    Returns:
        chances in [0, 1], of the same shape.
    """
    is_mixture = spreads > 0
    chances = np.zeros(np.shape(expected))
    if is_mixture.any():
        errors = np.sort((true_gains[is_mixture] - expected[is_mixture]) / spreads[is_mixture])
        limits = (-GRAVE_LOSS - expected[is_mixture]) / spreads[is_mixture]
        chances[is_mixture] = np.searchsorted(errors, limits) / len(errors)
    return chances


def _of_mixtures(weights: Sequence[Sequence[Floats]], predictions: Sequence[Sequence[PredictedGains]]) -> tuple[Floats, Floats]:
    """Expected gains and spreads of mixtures ``(ways, cases)``; both 0 for a case without a mixture."""
    pairs = [
        [(w @ predicted.gain, w @ np.maximum(predicted.spread, 1e-9)) for w, predicted in zip(*way, strict=True)]
        for way in zip(weights, predictions, strict=True)
    ]
    both = np.array(pairs, dtype=np.float64)
    return both[..., 0], both[..., 1]
