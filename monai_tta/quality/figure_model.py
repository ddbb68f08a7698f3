"""What predicts one figure of one structure's mask, such as its Dice: a curve over one signal, a forest, and an interval.

The figure lies in [0, 1] and is 1 for a mask without a fault, so that the same parts serve Dice and normalised surface Dice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_tta.quality.conformal import interval_of
from monai_tta.quality.gain_predictor import Floats, Forest, check_forest
from monai_tta.quality.structure_features import found_nothing

LEAST_SPREAD = 0.01  # in the figure's unit: no prediction is more certain than that
LEVELS = tuple(k / 100 for k in range(1, 100))


@dataclass(frozen=True, eq=False)
class QualityCurve:
    """The figure that one signal says: straight lines between knots, which only rise or only fall.

    Args:
        signal: its number among the features.
        at: where the knots are, rising.
        values: the figure at the knots, in [0, 1].
        if_empty: the figure of an empty mask, whatever the signal says.
    """

    signal: int
    at: Floats
    values: Floats
    if_empty: float

    def __call__(self, table: Floats) -> Floats:
        """The figure for each row of a table ``(rows, features)``; that of the nearest knot outside of them."""
        curve = np.interp(table[:, self.signal], self.at, self.values)
        return np.where(found_nothing(table), self.if_empty, curve)


@dataclass(frozen=True, eq=False)
class FigureModel:
    """What predicts one figure of one structure.

    Args:
        curve: what the best single signal says.
        residual: a forest that predicts what is missing to the true figure.
        share: of the forest's prediction that is added, in [0, 1]; 0 leaves the curve alone.
        spread: a forest that predicts how far the prediction is off.
        tails: how many spreads below and above the prediction the interval ends: ``(2, 2)``, a row for the unadapted answer and
            one for all others.
        scores: for the same two kinds, the `LEVELS` quantiles of (truth - prediction) / spread on held-out images, ``(2, 99)``.
    """

    curve: QualityCurve
    residual: Forest
    share: float
    spread: Forest
    tails: Floats
    scores: Floats

    def expected(self, table: Floats) -> Floats:
        """Expected figure of each row ``(rows, features)``, in [0, 1]."""
        curve = self.curve(table)
        if self.share == 0:
            return curve
        return with_residual(curve, self.residual.each(table).mean(0), self.share)

    def interval(self, table: Floats, adapted: bool) -> tuple[Floats, Floats, Floats, Floats]:
        """Expected figure of each row, the ends of its interval, and its spread."""
        expected = self.expected(table)
        tails = np.broadcast_to(self.tails[int(adapted)], (len(table), 2))
        spread = spreads_of(self.spread, table)
        return (expected, *interval_of(expected, spread, tails), spread)

    def to_arrays(self) -> dict[str, Any]:
        """The model as arrays by name, for a file."""
        arrays: dict[str, Any] = {
            "numbers": np.array([self.curve.signal, self.curve.if_empty, self.share]),
            "at": self.curve.at,
            "values": self.curve.values,
            "tails": self.tails,
            "scores": self.scores,
        }
        for name, forest in (("residual", self.residual), ("spread", self.spread)):
            arrays |= {f"{name}_{part}": array for part, array in vars(forest).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any], n_features: int) -> FigureModel:
        """Read `to_arrays` back.

        Args:
            arrays: by name.
            n_features: of a table's row.

        Raises:
            ValueError: for arrays that are no model.
            KeyError: where one is missing.
        """
        signal, if_empty, share = arrays["numbers"].tolist()
        curve = QualityCurve(int(signal), arrays["at"], arrays["values"], if_empty)
        if not 0 <= curve.signal < n_features or len(curve.at) != len(curve.values) or not np.isfinite(curve.values).all():
            raise ValueError("it has a curve over a signal that it does not name, or one that is not finite")
        forests = []
        for name in ("residual", "spread"):
            forest = Forest(**{part: arrays[f"{name}_{part}"] for part in Forest.__annotations__})
            check_forest(forest, n_features)
            forests.append(forest)
        tails = arrays["tails"]
        scores = arrays["scores"]
        if tails.shape != (2, 2) or scores.shape != (2, len(LEVELS)) or np.isnan(tails).any():
            raise ValueError("its intervals are of another form")
        return cls(curve, forests[0], share, forests[1], tails, scores)


def with_residual(curve: Floats, residual: Floats, share: float) -> Floats:
    """What the curve says, with a share of what a forest says is missing, in [0, 1]."""
    return np.clip(curve + share * residual, 0, 1)


def spreads_of(forest: Forest, table: Floats) -> Floats:
    """What a forest predicts of how far off predictions are, and at least `LEAST_SPREAD`."""
    return np.maximum(forest.each(table).mean(0), LEAST_SPREAD)
