"""Fit a gain predictor to calibration cases, with the margin that keeps harm on held-out cases below the stated rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from importlib.util import find_spec
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tta._version import __version__
from monai_tta.preparation.examples import GIVEN, CalibrationCase, CalibrationSet
from monai_tta.preparation.margin import DISCOUNT, LOSS_LIMIT, SURE_SPREADS, TEMPERATURE, choose_margin
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import Floats, Forest, GainPredictor
from monai_tta.quality.mixture_weights import NEGLIGIBLE_GAIN, PredictedGains
from monai_tta.reporting.significance import HARM

MAX_MISSED = 0.02  # of the cases with something to gain, the share that the prefilter may stop
FOLDS = 5
REPEATS = 5  # ways to hold images out in turn; with one, the margin depends on which images are held out together
TREES = 100
LEAF_SIZE = 8
PREFILTER_LEAF_SIZE = 4  # smaller, because a case is one row to the prefilter and two rows for each candidate to the predictor


def fit_predictor(calibration: CalibrationSet, harm: float) -> GainPredictor:
    """Fit the gain predictor of one network.

    The margin is chosen on cases that the forest has not seen: images are held out by turns, in `REPEATS` ways, and cases made
    from one image are never on both sides. The forest that is kept is fitted to all cases.

    Args:
        calibration: the network's calibration cases.
        harm: the largest share of cases that may lose more than a point of Dice.

    Raises:
        ValueError: for cases of fewer than `FOLDS` images, or too few cases to show the wanted share.
    """
    n_images = len({case.group for case in calibration.cases})
    check_usable(n_images, n_images, calibration.labels)
    check_enough_cases(len(calibration.cases), harm)
    predictor = _fit([calibration], ways_to_hold_out([case.group for case in calibration.cases]), harm)
    if calibration.agreement:
        predictor.about["views"] = calibration.agreement
    return replace(predictor, look=calibration.look, quick=calibration.quick, views=calibration.views)


def check_usable(n_usable: int, n_images: int, labels: str = GIVEN) -> None:
    """Check that as many images can be used as are held out in turn.

    Args:
        n_usable: images with something in their labels and something to adapt on.
        n_images: all images.
        labels: what the labels are, in words, see `CalibrationSet`.

    Raises:
        ValueError: for too few.
    """
    if n_usable < FOLDS:
        of_all = f"of {n_images} " if n_images > n_usable else ""
        images, what = (
            ("labelled images", "labels") if labels == GIVEN else ("images", "labels, or else in the network's answers")
        )
        raise ValueError(
            f"{n_usable} {of_all}{images} can be used; at least {FOLDS} are needed, with something in their {what}, and in some "
            "window"
        )


def check_scikit_learn() -> None:
    """Check that forests can be fitted, before the hours of work.

    Raises:
        ImportError: when scikit-learn is not installed.
    """
    if not find_spec("sklearn"):
        raise ImportError("calibration needs scikit-learn: pip install 'monai-tta[calibrate]'")


def check_enough_cases(n_cases: int, harm: float) -> None:
    """Check that a share of harmed cases as small as ``harm`` can be shown: see `choose_margin`, with no case harmed.

    Raises:
        ValueError: for too few cases. Every image would be left unadapted.
    """
    if 1 / (n_cases + 1) > harm:
        needed = next(n for n in count(n_cases) if 1 / (n + 1) <= harm)
        raise ValueError(f"a rate of {harm:g} cannot be shown on {n_cases} cases: at least {needed} are needed")


def fit_universal_predictor(networks: Sequence[CalibrationSet], harm: float) -> GainPredictor:
    """Fit one gain predictor for networks that were never calibrated, from the cases of many.

    The margin is chosen by leaving out all networks of one task in turn. The task is a set's ``name`` up to the first slash.
    """
    tasks = list(dict.fromkeys(_task(network) for network in networks))
    folds = [tasks.index(_task(network)) for network in networks for _ in network.cases]
    return _fit(networks, [folds], harm)


def _task(network: CalibrationSet) -> str:
    return network.name.split("/")[0]


def ways_to_hold_out(groups: Sequence[int]) -> list[list[int]]:
    """Folds of cases, in `REPEATS` ways: cases of one group are always in one fold, and folds have as many groups each.

    Args:
        groups: of each case.
    """
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    orders = [np.arange(len(numbers)), *(np.random.default_rng(k).permutation(len(numbers)) for k in range(1, REPEATS))]
    return [[int(order[numbers[group]]) % FOLDS for group in groups] for order in orders]


def _fit(networks: Sequence[CalibrationSet], ways: Sequence[Sequence[int]], harm: float) -> GainPredictor:
    """Fit to all cases of these networks; each of ``ways`` says of each case with which others it is held out."""
    cases = [case for network in networks for case in network.cases]
    margin, gains = choose_margin(cases, [predict_held_out(cases, folds) for folds in ways], harm)
    prefilter, threshold, stopped = fit_prefilter(cases, np.maximum(gains, 0).mean(0), ways[0])
    best_possible = np.array([max(case.gains.max(), 0.0) for case in cases])
    about = {
        "made": f"monai_tta {__version__}, {date.today().isoformat()}",
        "networks": [network.name for network in networks],
        "labels": "; ".join(dict.fromkeys(network.labels for network in networks)),
        "images": sum(len({case.group for case in network.cases}) for network in networks),
        "cases": len(cases),
        "wanted harm": harm,
        "harm held out": float(np.mean(gains < -HARM)),
        "worst held out": float(gains.min()),
        "mean gain held out": float(gains.mean()),
        "mean gain of the best answers": float(best_possible.mean()),
        "mean Dice of the source": float(np.mean([case.unadapted_dice for case in cases])),
        "left unadapted": float(np.mean(gains == 0)),
        "left unadapted by the prefilter": stopped,
    }
    forest = fit_forest(*stack_rows(cases), LEAF_SIZE)
    return GainPredictor(forest, FEATURES, margin, prefilter, threshold, TEMPERATURE, about, LOSS_LIMIT, SURE_SPREADS, DISCOUNT)


def predict_held_out(cases: Sequence[CalibrationCase], folds: Sequence[int]) -> list[PredictedGains]:
    """What a forest predicts for each case's answers when it has not seen any case of that fold."""
    predictions: dict[int, PredictedGains] = {}
    for held_out in sorted(set(folds)):
        others = [case for case, fold in zip(cases, folds, strict=True) if fold != held_out]
        forest = fit_forest(*stack_rows(others), LEAF_SIZE)
        for number, (case, fold) in enumerate(zip(cases, folds, strict=True)):
            if fold == held_out:
                predictions[number] = PredictedGains.of_trees(forest.each(case.features), DISCOUNT)
    return [predictions[number] for number in range(len(cases))]


def fit_prefilter(
    cases: Sequence[CalibrationCase], gains: Sequence[float] | Floats, folds: Sequence[int]
) -> tuple[Forest, float, float]:
    """Fit the prefilter: a forest that predicts a case's gain from the source's own two answers.

    A case is stopped when the prefilter predicts no more than a threshold. The threshold is at most `NEGLIGIBLE_GAIN`, and so low
    that at most `MAX_MISSED` of the cases that gained more than a point are stopped, by forests that have not seen their fold.

    Args:
        cases: with known labels.
        gains: what the gain predictor gained on each of them, held out.
        folds: of each case.

    Returns:
        the forest, the threshold, and the share of cases that are stopped.
    """
    rows = np.stack([case.source_features.ravel() for case in cases])
    targets = np.maximum(gains, 0.0)
    fold_of = np.array(folds)
    expected = np.zeros(len(cases))
    for held_out in set(folds):
        inside = fold_of != held_out
        prefilter = fit_forest(rows[inside], targets[inside], PREFILTER_LEAF_SIZE)
        expected[~inside] = prefilter.each(rows[~inside]).mean(0)
    order = np.argsort(expected, kind="stable")
    gainful = targets > HARM
    may_stop = np.cumsum(gainful[order]) <= MAX_MISSED * gainful.sum()
    threshold = min(NEGLIGIBLE_GAIN, float(expected[order][may_stop].max()) if may_stop.any() else -1.0)
    return fit_forest(rows, targets, PREFILTER_LEAF_SIZE), threshold, float(np.mean(expected <= threshold))


def stack_rows(cases: Sequence[CalibrationCase]) -> tuple[Floats, Floats]:
    """All answers of some cases: their features ``(rows, features)`` and their gains ``(rows,)``."""
    return np.concatenate([case.features for case in cases]), np.concatenate([case.gains for case in cases])


def fit_forest(
    features: Floats, targets: Floats, leaf_size: int, n_trees: int | None = None, weight: Floats | None = None
) -> Forest:
    """Fit extremely randomised trees (Geurts et al. 2006) that predict a number from each row, by scikit-learn.

    Args:
        features: ``(rows, features)``.
        targets: ``(rows,)``, e.g. gains.
        leaf_size: the least number of rows in a leaf.
        n_trees: how many; `TREES` unless told otherwise.
        weight: of each row; all weigh alike unless told otherwise.

    Raises:
        ImportError: when scikit-learn is not installed.
    """
    check_scikit_learn()
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(n_trees or TREES, min_samples_leaf=leaf_size, random_state=0, n_jobs=1)
    return flattened([tree.tree_ for tree in model.fit(features, targets, sample_weight=weight).estimators_])


def flattened(trees: Sequence[Any]) -> Forest:
    """Turn scikit-learn's trees into one set of flat arrays."""
    sizes = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)

    def joined(name: str, kind: Any) -> NDArray[Any]:
        return np.concatenate([getattr(tree, name).ravel() for tree in trees]).astype(kind)

    def children(name: str) -> NDArray[Any]:
        parts = [getattr(tree, name) + root for tree, root in zip(trees, roots, strict=True)]
        return np.concatenate(parts).astype(np.int32)

    is_leaf = joined("children_left", np.int64) < 0
    feature = np.where(is_leaf, -1, joined("feature", np.int16)).astype(np.int16)
    # scikit-learn compares float32 features with float64 thresholds; the next float32 below decides alike.
    exact = joined("threshold", np.float64)
    threshold = exact.astype(np.float32)
    threshold = np.where(threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    return Forest(
        roots=roots,
        feature=feature,
        threshold=threshold,
        left=children("children_left"),
        right=children("children_right"),
        value=joined("value", np.float32),
    )
