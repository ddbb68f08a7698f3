"""The gain predictor: from what a case shows of its candidate answers to how much Dice each is expected to gain, and how surely.

A gain predictor is a small forest of regression trees. It is fitted where the labels are (`monai-tta calibrate`). It comes with a
margin that kept harm below a stated rate on distorted source images that it had not seen, and with a prefilter: a second forest,
which says from the source's own answers alone whether candidates are worth running. Its file holds numbers only: no images, no
pickle. Trees: Geurts et al. 2006.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tta.compute.number_files import load_numbers, save_numbers
from monai_tta.core.source_look import SourceLook
from monai_tta.core.views import Views
from monai_tta.quality.mixture_weights import (
    MIN_GAIN,
    Discount,
    PredictedGains,
    candidate_weights,
    exceeds_margin,
    is_gamble,
    is_worth_it,
    known_discount,
)

Floats = NDArray[np.float64]
FORMAT = 3


class PredictorError(ValueError):
    """A gain predictor's file is missing, damaged or made for other features."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Regression trees in flat arrays.

    Node k asks whether ``table[:, feature[k]] <= threshold[k]`` and continues at ``left[k]`` or ``right[k]``. A leaf has
    feature -1 and a ``value``. ``roots`` are the trees' first nodes.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]

    def each(self, table: Floats) -> Floats:
        """What each tree predicts for each row of a table ``(rows, features)``: ``(trees, rows)``."""
        rows = np.arange(len(table))
        x = table.astype(np.float32)
        node = np.repeat(self.roots[:, None], len(table), axis=1)
        while True:
            feature = self.feature[node]
            if (feature < 0).all():
                return self.value[node].astype(np.float64)
            below = x[rows, np.maximum(feature, 0)] <= self.threshold[node]
            node = np.where(feature < 0, node, np.where(below, self.left[node], self.right[node]))


@dataclass(frozen=True, eq=False)
class GainPredictor:
    """A forest, the features it was fitted to, and how cautious it has to be.

    Args:
        forest: predicts a candidate's gain in Dice from its row of features.
        features: their names.
        margin: a case is worth adapting when ``gain - margin * spread > 0`` for one candidate. The spread is the standard
            deviation over the trees.
        prefilter: predicts the gain of the case in Dice, 0 or more, from the source's own two answers.
        prefilter_threshold: candidates run where the prefilter predicts more than this.
        temperature: in Dice; the lower, the more a candidate with a higher gain is preferred.
        about: how the predictor was made, in words and figures, with the harm rate measured on held-out distortions.
        loss_limit: in Dice: a mixture is a gamble where its gain, should it fall `RISK_AVERSION` spreads short, is a loss of more
            than this. Gambles are not taken. None, as in files of before there was one: no limit.
        sure_spreads: a mixture whose gain, should it fall this many spreads short, is still a gain is sure, and worth it though
            it may be small, see `is_worth_it`. None, as in files of before there was one: none is sure.
        discount: what is taken off gains before candidates are compared, see `PredictedGains`; files of before it was kept have
            "two spreads".
        look: of the source's images, for candidates that move an image towards it; None where it was not taken.
        quick: whether it was fitted to few candidates in few views, which are then all that is tried.
        views: in which candidates answered; None, as in files of before it was kept: the default ones.
    """

    forest: Forest
    features: tuple[str, ...]
    margin: float
    prefilter: Forest
    prefilter_threshold: float
    temperature: float = 0.03
    about: dict[str, Any] = field(default_factory=dict)
    loss_limit: float | None = None
    sure_spreads: float | None = None
    discount: Discount = "two spreads"
    look: SourceLook | None = None
    quick: bool = False
    views: Views | None = None

    def useless_because(self) -> str | None:
        """Why the predictor is of no use, by its held-out cases; None where it is of use.

        It is where these gained on average, and no more of them than wanted were harmed.
        """
        gain, harm, wanted = (self.about.get(name) for name in ("mean gain held out", "harm held out", "wanted harm"))
        if gain is not None and gain <= 0:
            return f"its mean gain on held-out cases is {100 * gain:+.2f} points of Dice, which is not above zero"
        if harm is not None and wanted is not None and harm > wanted:
            return f"it harms {harm:.1%} of the held-out cases, more than the wanted {wanted:.1%}"
        return None

    def predict_gains(self, table: Floats) -> PredictedGains:
        """Expected gain in Dice over the unadapted answer for each row ``(rows, features)``, with its spread."""
        return PredictedGains.of_trees(self.forest.each(table), self.discount)

    def weights(self, table: Floats) -> Floats:
        """Weights of the candidates in the answer, see `mixture_weights`, from their features ``(rows, features)``."""
        return self.mixture_weights(self.predict_gains(table))

    def mixture_weights(self, predicted: PredictedGains, min_gain: float = MIN_GAIN) -> Floats:
        """Weights of the candidates in the answer, summing to 1; all zero for the unadapted answer.

        They are zero where no candidate exceeds the margin, where the mixture is a gamble, and where it is not worth it: see
        `is_worth_it`.
        """
        weights = candidate_weights(predicted, self.temperature)
        is_adapted = exceeds_margin(predicted, self.margin) and is_worth_it(weights, predicted, self.sure_spreads, min_gain)
        if self.loss_limit is not None:
            is_adapted = is_adapted and not is_gamble(weights, predicted, self.loss_limit)
        return weights if is_adapted else np.zeros_like(weights)

    def prefilter_gain(self, source_features: Floats) -> float:
        """The gain in Dice that the prefilter predicts from the source's own answers ``(2, features)``: averaged over views, and
        un-augmented."""
        return float(self.prefilter.each(source_features.reshape(1, -1)).mean())

    def for_features(self, features: tuple[str, ...]) -> GainPredictor:
        """This predictor for tables with more features than it was fitted to, which it does not look at.

        Args:
            features: the names of a table's columns.

        Raises:
            ValueError: when it was fitted to one that is not among them.
        """
        if missing := set(self.features) - set(features):
            raise ValueError(f"fitted to {sorted(missing)}, which are not among the features")
        column = np.array([features.index(name) for name in self.features])
        both = np.concatenate([column, len(features) + column])  # a row of the prefilter is two rows, one after the other
        return replace(
            self, forest=_on_columns(self.forest, column), prefilter=_on_columns(self.prefilter, both), features=features
        )

    def save(self, path: Path) -> None:
        """Write the predictor as arrays and JSON (.npz), to a temporary name first and then in one move."""
        description = {
            "format": FORMAT,
            "features": self.features,
            "margin": self.margin,
            "prefilter_threshold": self.prefilter_threshold,
            "temperature": self.temperature,
            "about": self.about,
            "loss_limit": self.loss_limit,
            "sure_spreads": self.sure_spreads,
            "discount": self.discount,
            "look": None if self.look is None else self.look.to_dict(),
            "quick": self.quick,
            "views": None if self.views is None else asdict(self.views),
        }
        prefilter = {f"prefilter_{name}": array for name, array in vars(self.prefilter).items()}
        save_numbers(path, description, {**vars(self.forest), **prefilter})

    @classmethod
    def load(cls, path: Path) -> GainPredictor:
        """Read `save` back.

        Raises:
            PredictorError: for a file that is not there, cannot be read, or was written by another version.
        """
        if not path.is_file():
            raise PredictorError(
                f"{path} does not exist: `monai-tta calibrate BUNDLE` makes a gain predictor, or choose predictor='universal'"
            )
        try:
            said, arrays = load_numbers(path, FORMAT)
            forest, prefilter = (
                Forest(**{name: arrays[prefix + name] for name in Forest.__annotations__}) for prefix in ("", "prefilter_")
            )
            features = tuple(said["features"])
            check_forest(forest, len(features))
            check_forest(prefilter, 2 * len(features))
            margin, threshold, temperature = (float(said[name]) for name in ("margin", "prefilter_threshold", "temperature"))
            limit, sure = (None if said.get(name) is None else float(said[name]) for name in ("loss_limit", "sure_spreads"))
            discount = known_discount(said.get("discount", "two spreads"))
            look = None if said.get("look") is None else SourceLook.from_dict(said["look"])
            known = (forest, features, margin, prefilter, threshold, temperature)
            views = None if said.get("views") is None else Views.from_dict(said["views"])
            return cls(*known, said["about"], limit, sure, discount, look, bool(said.get("quick", False)), views)
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not a predictor's file
            raise PredictorError(f"{path} cannot be read as a gain predictor: {type(error).__name__}: {error}") from error


def _on_columns(forest: Forest, columns: NDArray[np.int64]) -> Forest:
    """A forest that finds its feature k in column ``columns[k]`` of a table."""
    feature = np.where(forest.feature < 0, -1, columns[np.maximum(forest.feature, 0)])
    return replace(forest, feature=feature.astype(np.int16))


def check_forest(forest: Forest, features: int) -> None:
    """Refuse a forest in which some way does not lead down to a leaf."""
    n = len(forest.feature)
    inner = forest.feature >= 0
    if any(len(v) != n for v in (forest.threshold, forest.left, forest.right, forest.value)) or not n:
        raise ValueError("its arrays differ in length or are empty")
    if forest.feature.max() >= features or not np.isfinite(forest.value).all():
        raise ValueError("it asks for features that it does not name, or says what is not finite")
    here = np.arange(n)[inner]
    for child in (forest.left[inner], forest.right[inner]):
        if (child <= here).any() or (child >= n).any():
            raise ValueError("its branches lead nowhere")
    if forest.roots.min() < 0 or forest.roots.max() >= n:
        raise ValueError("its roots lead nowhere")
