"""The quality predictor: from what an answer shows of each structure to the Dice it is expected to have, with an interval.

For each structure it starts from the one signal that says most by itself, such as the Dice between answers in views, through a
curve that only rises or only falls. A forest adds what the other figures know, as far as that held on images that were held out.
The interval is conformal: on distorted source images that were held out, it held the true Dice in the stated share of cases.
`monai-tta calibrate` fits it. Its file holds numbers only, and no pickle.

Where a structure is not in the label, the Dice is 1 for an empty mask and 0 for any other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_tta.compute.number_files import load_numbers, save_numbers
from monai_tta.core.record import StructureQuality
from monai_tta.core.views import Views
from monai_tta.quality.conformal import interval_of
from monai_tta.quality.gain_predictor import Floats, Forest, PredictorError, check_forest
from monai_tta.quality.structure_features import STRUCTURE_FEATURES, found_nothing

FORMAT = 1
RATE = 0.9  # of the cases, the share whose true Dice lies in the interval
LEAST_SPREAD = 0.01  # in Dice: no prediction is more certain than that
LEVELS = tuple(k / 100 for k in range(1, 100))


@dataclass(frozen=True, eq=False)
class QualityCurve:
    """The Dice that one signal says: straight lines between knots, which only rise or only fall.

    Args:
        signal: its number among the features.
        at: where the knots are, rising.
        dice: at the knots, in [0, 1].
        if_empty: the Dice of an empty mask, whatever the signal says.
    """

    signal: int
    at: Floats
    dice: Floats
    if_empty: float

    def __call__(self, table: Floats) -> Floats:
        """Dice for each row of a table ``(rows, features)``; that of the nearest knot outside of them."""
        curve = np.interp(table[:, self.signal], self.at, self.dice)
        return np.where(found_nothing(table), self.if_empty, curve)


@dataclass(frozen=True, eq=False)
class StructureModel:
    """What predicts the Dice of one structure.

    Args:
        curve: what the best single signal says.
        residual: a forest that predicts what is missing to the true Dice.
        share: of the forest's prediction that is added, in [0, 1]; 0 leaves the curve alone.
        spread: a forest that predicts how far the prediction is off, in Dice.
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
        """Expected Dice of each row ``(rows, features)``, in [0, 1]."""
        curve = self.curve(table)
        if self.share == 0:
            return curve
        return with_residual(curve, self.residual.each(table).mean(0), self.share)

    def interval(self, table: Floats, adapted: bool) -> tuple[Floats, Floats, Floats, Floats]:
        """Expected Dice of each row, the ends of its interval, and its spread."""
        expected = self.expected(table)
        tails = np.broadcast_to(self.tails[int(adapted)], (len(table), 2))
        spread = spreads_of(self.spread, table)
        return (expected, *interval_of(expected, spread, tails), spread)


@dataclass(frozen=True, eq=False)
class QualityPredictor:
    """Predicts the Dice of an answer's structures, on its adaptation windows.

    Args:
        structures: a model for each structure.
        network: the digest of the network that it was fitted to.
        views: in which answers are compared.
        budget: how many windows of an image are looked at.
        rate: the share of cases whose true Dice lies in the interval.
        temperature: by which logits are divided to make honest probabilities.
        features: their names.
        about: how the predictor was made, in words and figures, with what held on held-out distortions.
    """

    structures: tuple[StructureModel, ...]
    network: str
    views: Views = Views()
    budget: int = 4
    rate: float = RATE
    temperature: float = 1.0
    features: tuple[str, ...] = STRUCTURE_FEATURES
    about: dict[str, Any] = field(default_factory=dict)

    def predict(self, table: Floats, adapted: bool) -> tuple[StructureQuality, ...]:
        """The expected quality of each structure.

        Args:
            table: ``(structures, features)``.
            adapted: whether the answer is anything else than the source's own.

        Raises:
            PredictorError: for another number of structures.
        """
        if len(table) != len(self.structures):
            raise PredictorError(
                f"the quality predictor was fitted to {len(self.structures)} structures, and the network answers {len(table)}"
            )
        found = []
        for number, (model, row) in enumerate(zip(self.structures, table, strict=True)):
            expected, low, high, spread = (float(value[0]) for value in model.interval(row[None], adapted))
            found.append(StructureQuality(structure=number + 1, dice=expected, low=low, high=high, spread=spread))
        return tuple(found)

    def chance_below(self, quality: StructureQuality, adapted: bool, dice: float) -> float:
        """How likely the true Dice of a structure is below some other, from 0 to 1, in steps of a hundredth.

        Args:
            quality: what was predicted.
            adapted: whether of an answer that is not the source's own.
            dice: the other Dice.
        """
        scores = self.structures[quality.structure - 1].scores[int(adapted)]
        return float(np.mean(np.clip(quality.dice + scores * quality.spread, 0, 1) < dice))

    def save(self, path: Path) -> None:
        """Write the predictor as arrays and JSON (.npz), to a temporary name first and then in one move.

        Args:
            path: the file; one that is there is replaced.
        """
        description = {
            "format": FORMAT,
            "features": self.features,
            "structures": len(self.structures),
            "network": self.network,
            "views": asdict(self.views),
            "budget": self.budget,
            "rate": self.rate,
            "temperature": self.temperature,
            "about": self.about,
        }
        arrays: dict[str, Any] = {}
        for k, model in enumerate(self.structures):
            arrays[f"{k}_numbers"] = np.array([model.curve.signal, model.curve.if_empty, model.share])
            arrays |= {
                f"{k}_at": model.curve.at,
                f"{k}_dice": model.curve.dice,
                f"{k}_tails": model.tails,
                f"{k}_scores": model.scores,
            }
            for name, forest in (("residual", model.residual), ("spread", model.spread)):
                arrays |= {f"{k}_{name}_{part}": array for part, array in vars(forest).items()}
        save_numbers(path, description, arrays)

    @classmethod
    def load(cls, path: Path) -> QualityPredictor:
        """Read `save` back.

        Args:
            path: the file.

        Raises:
            PredictorError: for a file that is not there, cannot be read, or was written for other features.
        """
        if not path.is_file():
            raise PredictorError(f"{path} does not exist: `monai-tta calibrate BUNDLE` makes a quality predictor")
        try:
            said, arrays = load_numbers(path, FORMAT)
            structures = tuple(_model(arrays, k, len(said["features"])) for k in range(said["structures"]))
            axes = said["views"]["axes"]
            views = Views(**{**said["views"], "axes": None if axes is None else tuple(axes)})
            rate, temperature = (float(said[name]) for name in ("rate", "temperature"))
            features = tuple(said["features"])
            found = cls(structures, said["network"], views, int(said["budget"]), rate, temperature, features, said["about"])
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not a predictor's file
            raise PredictorError(f"{path} cannot be read as a quality predictor: {type(error).__name__}: {error}") from error
        if found.features != STRUCTURE_FEATURES:
            raise PredictorError(f"{path} was fitted to other features than this version computes; calibrate again")
        return found


def with_residual(curve: Floats, residual: Floats, share: float) -> Floats:
    """What the curve says, with a share of what a forest says is missing, in [0, 1]."""
    return np.clip(curve + share * residual, 0, 1)


def spreads_of(forest: Forest, table: Floats) -> Floats:
    """What a forest predicts of how far off predictions are, and at least `LEAST_SPREAD`."""
    return np.maximum(forest.each(table).mean(0), LEAST_SPREAD)


def _model(arrays: dict[str, Any], k: int, n_features: int) -> StructureModel:
    """The model of one structure in a file."""
    signal, if_empty, share = arrays[f"{k}_numbers"].tolist()
    curve = QualityCurve(int(signal), arrays[f"{k}_at"], arrays[f"{k}_dice"], if_empty)
    if not 0 <= curve.signal < n_features or len(curve.at) != len(curve.dice) or not np.isfinite(curve.dice).all():
        raise ValueError("it has a curve over a signal that it does not name, or one that is not finite")
    forests = []
    for name in ("residual", "spread"):
        forest = Forest(**{part: arrays[f"{k}_{name}_{part}"] for part in Forest.__annotations__})
        check_forest(forest, n_features)
        forests.append(forest)
    tails, scores = arrays[f"{k}_tails"], arrays[f"{k}_scores"]
    if tails.shape != (2, 2) or scores.shape != (2, len(LEVELS)) or np.isnan(tails).any():
        raise ValueError("its intervals are of another form")
    return StructureModel(curve, forests[0], share, forests[1], tails, scores)
