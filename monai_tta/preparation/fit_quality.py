"""Fit a quality predictor to calibration cases, with intervals that held on cases that were held out.

Whatever is chosen, the signal, what of the forest is added and how wide the interval is, is chosen by images that are held out in
turn. Cases made from one image are never on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tta._version import __version__
from monai_tta.core.views import Views
from monai_tta.preparation.examples import GIVEN, CalibrationCase, CalibrationSet
from monai_tta.preparation.fit import FOLDS, check_scikit_learn, check_usable, fit_forest
from monai_tta.preparation.temperature import best_temperature
from monai_tta.quality.conformal import conformal_tails, interval_of
from monai_tta.quality.figure_model import LEVELS, FigureModel, QualityCurve, spreads_of, with_residual
from monai_tta.quality.gain_predictor import Floats, Forest
from monai_tta.quality.quality_predictor import FIGURES, RATE, QualityPredictor, StructureModel
from monai_tta.quality.structure_features import SIGNALS, STRUCTURE_FEATURES, found_nothing

NEEDS_LABELS = "a quality predictor needs a true label for each image: the network's own answers say nothing of how good they are"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the forest's prediction, of which one is chosen
TREES = 50
LEAF_SIZE = 20  # larger than the gain predictor's: a case is a row for each answer, and these are alike
SOURCE_ROW = 1  # of a case's answers, the source's own, see `monai_tta.quality.candidates.TrialResults`


@dataclass(frozen=True, eq=False)
class Rows:
    """The answers of all cases, as rows for one figure of one structure.

    Args:
        table: features ``(rows, features)``.
        truth: the true figure of each row, its Dice or NSD.
        fold: with which others each row is held out.
        adapted: False for the source's own answer.
        weight: of each row. In each case, the source's own answer weighs as much as all others together.
    """

    table: Floats
    truth: Floats
    fold: NDArray[np.int64]
    adapted: NDArray[np.bool_]
    weight: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(*(array[chosen] for array in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Point:
    """What predicts one figure of one structure, without an interval."""

    curve: QualityCurve
    residual: Forest
    share: float

    def __call__(self, table: Floats) -> Floats:
        """Expected figure of each row ``(rows, features)``."""
        return with_residual(self.curve(table), self.residual.each(table).mean(0), self.share)


def fit_quality(calibration: CalibrationSet, budget: int, rate: float = RATE) -> QualityPredictor:
    """Fit the quality predictor of one network.

    Args:
        calibration: the network's calibration cases, described by structure.
        budget: how many windows of an image were looked at.
        rate: the share of cases whose true Dice is to lie in the interval.

    Raises:
        ValueError: for cases of fewer than `FOLDS` images, or that are not described by structure, or without true labels.
    """
    check_scikit_learn()
    if calibration.labels != GIVEN:
        raise ValueError(NEEDS_LABELS)
    cases = [*calibration.cases, *calibration.undistorted]
    groups = sorted({case.group for case in cases})
    check_usable(len(groups), len(groups))
    if not all(len(case.structure_features) for case in cases):
        raise ValueError("these calibration cases say nothing of single structures: make them again")
    folds = [groups.index(case.group) % FOLDS for case in cases]
    temperature, error_before, error_after = best_temperature([case.temperature_scores for case in cases], folds)
    models = []
    found = []
    for k in range(cases[0].structure_dice.shape[1]):
        of_figures = {name: _fit_figure(_rows(cases, folds, k, name), rate, len(cases)) for name in FIGURES}
        models.append(StructureModel(**{name: model for name, (model, _) in of_figures.items()}))
        found.append({"structure": k + 1, **{name: about for name, (_, about) in of_figures.items()}})
    about = {
        "made": f"monai_tta {__version__}, {date.today().isoformat()}",
        "networks": [calibration.name],
        "cases": len(calibration.cases),
        "undistorted images": len(calibration.undistorted),
        "images": len(groups),
        "structures": found,
        "temperature": temperature,
        "calibration error before": error_before,
        "calibration error after": error_after,
    }
    if calibration.agreement:
        about["views"] = calibration.agreement
    how = (calibration.views or Views(), budget, rate, temperature, STRUCTURE_FEATURES, about, calibration.tried_others)
    return QualityPredictor(tuple(models), calibration.network, *how)


def _rows(cases: Sequence[CalibrationCase], folds: Sequence[int], structure: int, figure: str) -> Rows:
    """All answers of all cases, for one of `FIGURES` of one structure."""
    parts = []
    for case, fold in zip(cases, folds, strict=True):
        truth = (case.structure_dice if figure == "dice" else case.structure_nsd)[:, structure]
        n = len(truth)
        adapted = np.arange(n) != SOURCE_ROW
        weight = np.where(adapted, 0.5 / max(n - 1, 1), 0.5)
        parts.append(Rows(case.structure_features[:, structure], truth, np.full(n, fold), adapted, weight))
    return Rows(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True)))


def _fit_figure(rows: Rows, rate: float, n_cases: int) -> tuple[FigureModel, dict[str, Any]]:
    """The model of one figure of one structure, and what held on the images that were held out."""
    expected = np.zeros(len(rows.truth))
    for fold in np.unique(rows.fold):
        inside = rows.fold == fold
        expected[inside] = fit_point(rows.where(~inside))(rows.table[inside])
    off = rows.truth - expected
    spread = np.zeros(len(off))
    for fold in np.unique(rows.fold):
        inside = rows.fold == fold
        forest = _grow(rows.where(~inside), np.abs(off[~inside]))
        spread[inside] = spreads_of(forest, rows.table[inside])
    point = fit_point(rows)
    scores = off / spread
    tails = _tails(scores, rows.adapted, rate, n_cases)
    quantiles = np.stack([np.quantile(scores[rows.adapted == kind], LEVELS) for kind in (False, True)])
    final_spread = _grow(rows, np.abs(off))
    model = FigureModel(point.curve, point.residual, point.share, final_spread, tails, quantiles)
    return model, _held_out(rows, expected, spread, point, rate, n_cases)


def fit_point(rows: Rows) -> Point:
    """Choose the signal and the forest's share by folds, and fit both to all rows."""
    folds = np.unique(rows.fold)
    names = list(SIGNALS)
    curves = np.zeros((len(names), len(rows.truth)))
    residual = np.zeros(len(rows.truth))
    for fold in folds:
        inside = rows.fold == fold
        for number, name in enumerate(names):
            curves[number, inside] = fit_curve(rows.where(~inside), name)(rows.table[inside])
    errors = [np.average((rows.truth - curve) ** 2, weights=rows.weight) for curve in curves]
    best = int(np.argmin(errors))
    for fold in folds:
        inside = rows.fold == fold
        others = rows.where(~inside)
        missing = others.truth - fit_curve(others, names[best])(others.table)
        residual[inside] = _grow(others, missing).each(rows.table[inside]).mean(0)
    added = [with_residual(curves[best], residual, share) for share in SHARES]
    share = SHARES[int(np.argmin([np.average((rows.truth - one) ** 2, weights=rows.weight) for one in added]))]
    curve = fit_curve(rows, names[best])
    return Point(curve, _grow(rows, rows.truth - curve(rows.table)), share)


def fit_curve(rows: Rows, name: str) -> QualityCurve:
    """The isotonic regression of a figure on one signal, by scikit-learn; empty masks have a value of their own.

    Args:
        rows: with the known figure.
        name: one of `SIGNALS`.
    """
    from sklearn.isotonic import IsotonicRegression

    signal = STRUCTURE_FEATURES.index(name)
    empty = found_nothing(rows.table)
    if_empty = float((0.5 + rows.truth[empty].sum()) / (1 + empty.sum()))
    if empty.all():
        return QualityCurve(signal, np.zeros(1), np.full(1, if_empty), if_empty)
    full = rows.where(~empty)
    model = IsotonicRegression(increasing=SIGNALS[name] > 0, out_of_bounds="clip")
    model.fit(full.table[:, signal], full.truth, sample_weight=full.weight)
    return QualityCurve(signal, model.X_thresholds_.astype(float), model.y_thresholds_.astype(float), if_empty)


def _grow(rows: Rows, targets: Floats) -> Forest:
    """A forest that predicts a number from each row."""
    return fit_forest(rows.table, targets, LEAF_SIZE, TREES, rows.weight)


def _tails(scores: Floats, adapted: NDArray[np.bool_], rate: float, n_cases: int) -> Floats:
    """The conformal quantiles of the source's own answers and of all others, ``(2, 2)``."""
    return np.array([conformal_tails(scores[adapted == kind], rate, n_cases) for kind in (False, True)])


def _held_out(rows: Rows, expected: Floats, spread: Floats, point: Point, rate: float, n_cases: int) -> dict[str, Any]:
    """What held on images that were held out; each fold's interval comes from the scores of the others."""
    off = rows.truth - expected
    is_inside = np.zeros(len(off), bool)
    width = np.zeros(len(off))
    for fold in np.unique(rows.fold):
        here = rows.fold == fold
        tails = _tails(off[~here] / spread[~here], rows.adapted[~here], rate, n_cases * int((~here).sum()) // len(here))
        low, high = interval_of(expected[here], spread[here], tails[rows.adapted[here].astype(int)])
        is_inside[here] = (low <= rows.truth[here]) & (rows.truth[here] <= high)
        width[here] = high - low
    own = ~rows.adapted
    return {
        "signal": STRUCTURE_FEATURES[point.curve.signal],
        "share of the forest": point.share,
        "mean": float(rows.truth[own].mean()),
        "mean absolute error held out": float(np.abs(off)[own].mean()),
        "mean absolute error held out, adapted": float(np.abs(off)[~own].mean()),
        "coverage held out": float(is_inside[own].mean()),
        "coverage held out, adapted": float(is_inside[~own].mean()),
        "mean width of the interval": float(width[own].mean()),
    }
