"""The calibrated judge: what a case shows of its candidates -> how much Dice each is expected to gain, and how surely.

A judge is a small forest of regression trees, fitted where the labels are (`preparation.calibrate`), with the margin that kept
harm below a stated rate on distorted source images it had not seen, and a second forest, the scout, which says from the source's
own answers alone whether the others are worth hearing. Its file holds numbers only: no images, no pickle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FORMAT = 2
RISK_AVERSION = 2.0  # spreads that are taken off a gain before gains are compared
MIN_GAIN = 0.02  # Dice that a mixture must be expected to gain: twice what counts as harm


class PredictorError(ValueError):
    """A judge's file is missing, damaged or made for other features."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Regression trees in flat arrays: node k asks whether ``table[:, feature[k]] <= threshold[k]`` and goes on at ``left[k]``
    or ``right[k]``; a leaf has feature -1. ``roots`` are the trees' first nodes."""

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]

    def each(self, table: Floats) -> Floats:
        """What each tree says of each row of a table ``(rows, features)``: ``(trees, rows)``."""
        rows = np.arange(len(table))
        x = table.astype(np.float32)
        at = np.repeat(self.roots[:, None], len(table), axis=1)
        while True:
            asks = self.feature[at]
            if (asks < 0).all():
                return self.value[at].astype(np.float64)
            below = x[rows, np.maximum(asks, 0)] <= self.threshold[at]
            at = np.where(asks < 0, at, np.where(below, self.left[at], self.right[at]))


@dataclass(frozen=True, eq=False)
class GainPredictor:
    """A forest, the features it was fitted to, and how cautious it has to be.

    ``margin`` k: a case is worth adapting when ``gain - k * spread > 0`` for one candidate, spread being the standard deviation
    over the trees. ``temperature`` (in Dice) says how sharply candidates with a higher gain are preferred. ``about`` says how the
    judge came to be, in words and figures, and the harm rate measured on held-out distortions. ``scout`` expects a gain (in Dice,
    0 or more) of the case from the source's own two answers; the others are heard where it is above ``bother``.
    """

    forest: Forest
    features: tuple[str, ...]
    margin: float
    prefilter: Forest
    prefilter_threshold: float
    temperature: float = 0.03
    about: dict[str, Any] = field(default_factory=dict)

    def gains(self, table: Floats) -> tuple[Floats, Floats]:
        """Expected gain in Dice over the plain source answer of each row ``(rows, features)``, and its spread."""
        said = self.forest.each(table)
        return said.mean(0), said.std(0)

    def weigh(self, table: Floats) -> Floats:
        """Shares of the candidates in the answer, summing to 1; all zero: give the plain source answer, because no candidate is
        sure enough, or the mixture is not expected to gain more than `MIN_GAIN`."""
        return self.shares(*self.gains(table))

    def shares(self, gain: Floats, spread: Floats, min_gain: float = MIN_GAIN) -> Floats:
        """The same of gains that are known already, of which a mixture must be expected to gain more than ``worth`` (Dice)."""
        shares = candidate_weights(gain, spread, self.temperature)
        return (
            shares
            if exceeds_margin(gain, spread, self.margin) and exceeds_min_gain(shares, gain, min_gain)
            else np.zeros_like(gain)
        )

    def expected_gain(self, first: Floats) -> float:
        """The gain in Dice that the scout expects of the source's own answers ``(2, features)``: averaged, and from the front."""
        return float(self.prefilter.each(first.reshape(1, -1)).mean())

    def save(self, path: Path) -> None:
        """Write the judge as arrays and JSON (.npz), aside first and then in one move."""
        aside = path.with_name(f".{path.name}.partial")
        numbers = {"margin": self.margin, "bother": self.prefilter_threshold, "temperature": self.temperature}
        said = {"format": FORMAT, "features": self.features, **numbers}
        text = np.frombuffer(json.dumps(said | {"about": self.about}).encode(), np.uint8)
        with aside.open("wb") as file:
            np.savez_compressed(
                file, **vars(self.forest), **{f"scout_{k}": v for k, v in vars(self.prefilter).items()}, said=text
            )
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> GainPredictor:
        """Read `save` back.

        Raises:
            NoJudge: for a file that isn't there, can't be read, or was written by another version.
        """
        if not path.is_file():
            raise PredictorError(
                f"{path} does not exist: `monai-tta calibrate BUNDLE` makes a judge, or choose judge='universal'"
            )
        try:
            with np.load(path, allow_pickle=False) as arrays:
                said = json.loads(arrays["said"].tobytes().decode())
                if said["format"] != FORMAT:
                    raise ValueError(f"format {said['format']}, this version reads {FORMAT}: calibrate again")
                forest, prefilter = (Forest(**{k: arrays[name + k] for k in Forest.__annotations__}) for name in ("", "scout_"))
            features = tuple(said["features"])
            _sound(forest, len(features))
            _sound(prefilter, 2 * len(features))
            margin, prefilter_threshold, temperature = (float(said[name]) for name in ("margin", "bother", "temperature"))
            return cls(forest, features, margin, prefilter, prefilter_threshold, temperature, said["about"])
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not a judge's file
            raise PredictorError(f"{path} cannot be read as a judge: {type(error).__name__}: {error}") from error


def candidate_weights(gain: Floats, spread: Floats, temperature: float) -> Floats:
    """Shares of the candidates whose gain is larger than its spread, in proportion to ``exp((gain - 2 spread) / temperature)``,
    summing to 1; all zero where there is none."""
    sure = gain > spread
    if not sure.any():
        return np.zeros_like(gain)
    least = gain - RISK_AVERSION * spread
    raised = np.where(sure, np.exp((least - least[sure].max()) / temperature), 0.0)
    return raised / raised.sum()


def exceeds_margin(gain: Floats, spread: Floats, margin: float) -> bool:
    """Whether the gain of at least one candidate is larger than ``margin`` spreads."""
    return bool(np.any(gain - margin * spread > 0))


def exceeds_min_gain(shares: Floats, gain: Floats, min_gain: float = MIN_GAIN) -> bool:
    """Whether a mixture is expected to gain more than ``worth``."""
    return bool(shares @ gain > min_gain)


def _sound(forest: Forest, features: int) -> None:
    """Refuse a forest that could not be walked through: every way must lead down to a leaf."""
    n = len(forest.feature)
    inner = forest.feature >= 0
    if any(len(v) != n for v in (forest.threshold, forest.left, forest.right, forest.value)) or not n:
        raise ValueError("its arrays differ in length or are empty")
    if forest.feature.max() >= features or not np.isfinite(forest.value).all():
        raise ValueError("it asks for features that it does not name, or says what is not finite")
    here = np.arange(n)[inner]
    for way in (forest.left[inner], forest.right[inner]):
        if (way <= here).any() or (way >= n).any():
            raise ValueError("its branches lead nowhere")
    if forest.roots.min() < 0 or forest.roots.max() >= n:
        raise ValueError("its roots lead nowhere")
