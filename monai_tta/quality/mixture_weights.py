"""Which candidates are mixed into an answer, and whether a mixture is worth it: from expected gains in Dice and their spreads."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Discount = Literal["two spreads", "relative spread"]
DISCOUNTS: tuple[Discount, ...] = ("two spreads", "relative spread")
RISK_AVERSION = 2.0  # standard deviations that a mixture's gain may fall short
NEGLIGIBLE_GAIN = 0.002  # a gain in Dice that is not worth the forward passes, however sure it is
MIN_GAIN = 0.02  # Dice that a mixture must be expected to gain: twice what counts as harm


class PredictedGains(NamedTuple):
    """What is predicted of the candidates of one case, in Dice, one number for each.

    Args:
        gain: expected gain over the unadapted answer.
        spread: how far off that may be: the standard deviation over the trees.
        discount: what is taken off each gain before the candidates are compared with each other.
    """

    gain: Floats
    spread: Floats
    discount: Floats

    @classmethod
    def of_trees(cls, of_each_tree: Floats, discount: Discount) -> PredictedGains:
        """From what each tree predicts.

        Trees that differ on whether a case can gain at all say the same of all its candidates. That doubt belongs to the decision
        whether to adapt, and not to the choice among the candidates. So the *relative spread* of a candidate is the standard
        deviation, over the trees, of its gain less the mean gain of all that count in a mixture.

        Args:
            of_each_tree: gains ``(trees, candidates)``.
            discount: twice the spread, or the relative spread.
        """
        spread = of_each_tree.std(0)
        predicted = cls(of_each_tree.mean(0), spread, RISK_AVERSION * spread)
        if discount == "two spreads" or not predicted.counts.any():
            return predicted
        of_mixture = of_each_tree[:, predicted.counts].mean(1, keepdims=True)
        return predicted._replace(discount=(of_each_tree - of_mixture).std(0))

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Which candidates count in a mixture: those whose gain is larger than its spread."""
        return self.gain > self.spread


def known_discount(word: str) -> Discount:
    """A word for a discount, as one that is known.

    Raises:
        ValueError: for another.
    """
    for discount in DISCOUNTS:
        if word == discount:
            return discount
    raise ValueError(f"it takes {word!r} off gains; known are {', '.join(map(repr, DISCOUNTS))}")


def candidate_weights(predicted: PredictedGains, temperature: float) -> Floats:
    """Weights of the candidates whose gain is larger than its spread, in proportion to ``exp((gain - discount) / temperature)``.

    Returns:
        weights that sum to 1; all zero where no gain is larger than its spread.
    """
    counts = predicted.counts
    if not counts.any():
        return np.zeros_like(predicted.gain)
    cautious = predicted.gain - predicted.discount
    raised = np.where(counts, np.exp((cautious - cautious[counts].max()) / temperature), 0.0)
    return raised / raised.sum()


def exceeds_margin(predicted: PredictedGains, margin: float) -> bool:
    """Whether the gain of at least one candidate is larger than ``margin`` spreads."""
    return bool(np.any(predicted.gain - margin * predicted.spread > 0))


def is_worth_it(weights: Floats, predicted: PredictedGains, sure_spreads: float | None, min_gain: float = MIN_GAIN) -> bool:
    """Whether a mixture is expected to gain more than ``min_gain`` in Dice, or is sure to gain something that is not negligible.

    Args:
        weights: of the candidates in the mixture; they sum to 1, or are all zero where there is none.
        predicted: of each candidate.
        sure_spreads: how many spreads short the mixture may fall and must still gain, to be sure; None: nothing is sure.
        min_gain: in Dice.
    """
    expected = float(weights @ predicted.gain)
    is_sure = sure_spreads is not None and bool(weights @ (predicted.gain - sure_spreads * predicted.spread) > 0)
    return expected > (min(NEGLIGIBLE_GAIN, min_gain) if is_sure else min_gain)


def is_gamble(weights: Floats, predicted: PredictedGains, loss_limit: float) -> bool:
    """Whether a mixture loses more than ``loss_limit`` in Dice where its gain is `RISK_AVERSION` spreads less than expected."""
    return bool(weights @ (predicted.gain - RISK_AVERSION * predicted.spread) < -loss_limit)
