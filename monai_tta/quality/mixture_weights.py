"""Which candidates are mixed into an answer, and whether a mixture is worth it: from expected gains in Dice and their spreads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RISK_AVERSION = 2.0  # standard deviations that are taken off a gain before gains are compared
NEGLIGIBLE_GAIN = 0.002  # a gain in Dice that is not worth the forward passes, however sure it is
MIN_GAIN = 0.02  # Dice that a mixture must be expected to gain: twice what counts as harm


def candidate_weights(gain: Floats, spread: Floats, temperature: float) -> Floats:
    """Weights of the candidates whose gain is larger than its spread, in proportion to ``exp((gain - 2 spread) / temperature)``.

    Returns:
        weights that sum to 1; all zero where no gain is larger than its spread.
    """
    sure = gain > spread
    if not sure.any():
        return np.zeros_like(gain)
    cautious = gain - RISK_AVERSION * spread
    raised = np.where(sure, np.exp((cautious - cautious[sure].max()) / temperature), 0.0)
    return raised / raised.sum()


def exceeds_margin(gain: Floats, spread: Floats, margin: float) -> bool:
    """Whether the gain of at least one candidate is larger than ``margin`` spreads."""
    return bool(np.any(gain - margin * spread > 0))


def is_worth_it(weights: Floats, gain: Floats, spread: Floats, sure_spreads: float | None, min_gain: float = MIN_GAIN) -> bool:
    """Whether a mixture is expected to gain more than ``min_gain`` in Dice, or is sure to gain something that is not negligible.

    Args:
        weights: of the candidates in the mixture; they sum to 1, or are all zero where there is none.
        gain: expected, of each candidate.
        spread: of each gain.
        sure_spreads: how many spreads short the mixture may fall and must still gain, to be sure; None: nothing is sure.
        min_gain: in Dice.
    """
    expected = float(weights @ gain)
    is_sure = sure_spreads is not None and bool(weights @ (gain - sure_spreads * spread) > 0)
    return expected > (min(NEGLIGIBLE_GAIN, min_gain) if is_sure else min_gain)


def is_gamble(weights: Floats, gain: Floats, spread: Floats, loss_limit: float) -> bool:
    """Whether a mixture loses more than ``loss_limit`` in Dice where its gain is `RISK_AVERSION` spreads less than expected."""
    return bool(weights @ (gain - RISK_AVERSION * spread) < -loss_limit)
