"""Fit a judge to calibration cases, and find the caution that kept harm below the stated rate on cases held out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tta._version import __version__
from monai_tta.preparation.examples import CalibrationCase, CalibrationSet
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import Floats, Forest, GainPredictor, candidate_weights, exceeds_margin, exceeds_min_gain
from monai_tta.reporting.significance import HARM

GRAVE_LOSS = 0.05
MARGINS = tuple(1 + k / 4 for k in range(25))
MAX_MISSED = 0.02  # share of the cases with something to gain that a scout may send home
NEGLIGIBLE_GAIN = 0.002  # a gain in Dice not worth the forward passes
FOLDS = 5
TREES, LEAF, TEMPERATURE = 100, 8, 0.03
PREFILTER_LEAF = 4  # a case is one row to the scout, and two for each candidate to the judge


def fit_forest(table: Floats, gains: Floats, leaf: int = LEAF) -> Forest:
    """Extremely randomised trees (Geurts et al. 2006) from rows ``(rows, features)`` to gains, by scikit-learn."""
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError as error:
        raise ImportError("calibration needs scikit-learn: pip install 'monai-tta[calibrate]'") from error
    model = ExtraTreesRegressor(TREES, min_samples_leaf=leaf, random_state=0, n_jobs=1).fit(table, gains)
    return flattened([tree.tree_ for tree in model.estimators_])


def rows_of(cases: Sequence[CalibrationCase]) -> tuple[Floats, Floats]:
    """All rows of some cases as one table, and their gains."""
    return np.concatenate([k.table for k in cases]), np.concatenate([k.gains for k in cases])


def flattened(trees: Sequence[Any]) -> Forest:
    """scikit-learn's trees as one set of arrays."""
    sizes = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])

    def joined(name: str, kind: Any, shift: bool = False) -> NDArray[Any]:
        return np.concatenate([getattr(t, name).ravel() + (r if shift else 0) for t, r in zip(trees, roots, strict=True)]).astype(
            kind
        )

    feature = np.where(leaf, -1, joined("feature", np.int16)).astype(np.int16)
    # scikit-learn compares float32 features with float64 thresholds; the next float32 below decides alike.
    exact = np.concatenate([t.threshold for t in trees])
    threshold = exact.astype(np.float32)
    threshold = np.where(threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    left, right = joined("children_left", np.int32, True), joined("children_right", np.int32, True)
    return Forest(roots, feature, threshold, left, right, joined("value", np.float32))


def held_out_gains(cases: Sequence[CalibrationCase], folds: Sequence[int]) -> list[tuple[Floats, Floats]]:
    """Gains and spreads of each case, as judged by a forest that has not seen its fold."""
    said: dict[int, tuple[Floats, Floats]] = {}
    for fold in sorted(set(folds)):
        forest = fit_forest(*rows_of([k for k, f in zip(cases, folds, strict=True) if f != fold]))
        for i, (case, own) in enumerate(zip(cases, folds, strict=True)):
            if own == fold:
                each = forest.each(case.table)
                said[i] = (each.mean(0), each.std(0))
    return [said[i] for i in range(len(cases))]


def choose_margin(
    cases: Sequence[CalibrationCase], said: Sequence[tuple[Floats, Floats]], harm: float
) -> tuple[float, list[float]]:
    """The least margin that keeps the share of harmed cases below ``harm``, and the gains that it leaves where the mixtures are
    expected to be worth it.

    Conformal risk control (Angelopoulos et al. 2024, arXiv 2208.02814, eq. 4): ``(n R + 1) / (n + 1) <= harm``, R being the
    share of the held-out cases that lose more than `HARM`; and at most a quarter of that rate may lose more than `GRAVE_LOSS`. Where
    no margin does, the largest.
    """
    n = len(cases)
    shares = [candidate_weights(g, s, TEMPERATURE) for g, s in said]
    full = [k.gain_of(w) for k, w in zip(cases, shares, strict=True)]
    left: list[float] = []
    for margin in MARGINS:
        left = [v if exceeds_margin(g, s, margin) else 0.0 for v, (g, s) in zip(full, said, strict=True)]
        harmed, gravely = (sum(v < -limit for v in left) for limit in (HARM, GRAVE_LOSS))
        if (harmed + 1) / (n + 1) <= harm and gravely / n <= harm / 4:
            break
    # The margin is found without this, or it would be less careful with the cases that remain.
    return margin, [v if exceeds_min_gain(w, g) else 0.0 for v, w, (g, _) in zip(left, shares, said, strict=True)]


def fit_prefilter(cases: Sequence[CalibrationCase], left: Sequence[float], folds: Sequence[int]) -> tuple[Forest, float, float]:
    """A scout: a forest from the source's own answers to what the judge gained, held out, on each case; the expected gain up to
    which cases go home, at most `NEGLIGIBLE_GAIN`, and so that of those that gained over a point, held out of its own fit, no more
    than `MAX_MISSED` do; and the share of cases that do."""
    first, gains = np.stack([k.first.ravel() for k in cases]), np.maximum(left, 0.0)
    own, expected = np.array(folds), np.zeros(len(cases))
    for fold in set(folds):
        prefilter = fit_forest(first[own != fold], gains[own != fold], PREFILTER_LEAF)
        expected[own == fold] = prefilter.each(first[own == fold]).mean(0)
    order = np.argsort(expected, kind="stable")
    missed = np.cumsum(gains[order] > HARM) <= MAX_MISSED * (gains > HARM).sum()
    prefilter_threshold = min(NEGLIGIBLE_GAIN, float(expected[order][missed].max()) if missed.any() else -1.0)
    return fit_forest(first, gains, PREFILTER_LEAF), prefilter_threshold, float(np.mean(expected <= prefilter_threshold))


def fit_predictor(cases: CalibrationSet, harm: float) -> GainPredictor:
    """A network's own judge: margin from folds of its images (cases made from one image are never on both sides), forest from
    all of its cases.

    Raises:
        ValueError: for fewer than `FOLDS` images.
    """
    folds = [k.group % FOLDS for k in cases.known]
    if len(set(folds)) < FOLDS:
        raise ValueError(
            f"{cases.name}: {len({k.group for k in cases.known})} labelled images can teach; at least {FOLDS} are needed"
        )
    return _judge([cases], folds, harm)


def fit_universal_predictor(many: Sequence[CalibrationSet], harm: float) -> GainPredictor:
    """A judge for networks that were never calibrated: margin from leaving out all networks of one task (``name`` up to a slash)
    in turn."""
    tasks = list(dict.fromkeys(c.name.split("/")[0] for c in many))
    folds = [tasks.index(c.name.split("/")[0]) for c in many for _ in c.known]
    return _judge(many, folds, harm)


def _judge(many: Sequence[CalibrationSet], folds: Sequence[int], harm: float) -> GainPredictor:
    known = [k for c in many for k in c.known]
    margin, left = choose_margin(known, held_out_gains(known, folds), harm)
    prefilter, prefilter_threshold, spared = fit_prefilter(known, left, folds)
    plain, best = np.array([k.plain for k in known]), np.array([max(k.gains.max(), 0.0) for k in known])
    about = {
        "made": f"monai_tta {__version__}, {date.today().isoformat()}",
        "networks": [c.name for c in many],
        "cases": len(known),
        "wanted harm": harm,
        "harm held out": float(np.mean(np.array(left) < -HARM)),
        "worst held out": float(min(left)),
        "mean gain held out": float(np.mean(left)),
        "mean gain of the best answers": float(best.mean()),
        "mean Dice of the source": float(plain.mean()),
        "answered plainly": float(np.mean(np.array(left) == 0)),
        "plainly at first sight": spared,
    }
    return GainPredictor(fit_forest(*rows_of(known)), FEATURES, margin, prefilter, prefilter_threshold, TEMPERATURE, about)
