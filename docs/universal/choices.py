"""Ways to answer a case, whose gains are compared pair by pair: single candidates, the best one, and gain predictors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from docs.universal.networks import NO_VIEWS, QUICK, USUAL, Sets
from monai_tta.preparation.examples import OWN_ANSWERS, CalibrationCase, CalibrationSet
from monai_tta.preparation.fit import fit_predictor
from monai_tta.quality.features import CANDIDATE_FEATURES, FEATURES
from monai_tta.quality.gain_predictor import Floats, GainPredictor

GainsOfCases = Callable[[Sequence[CalibrationCase]], list[float]]
OWN = "own gain predictor"
WITHOUT_LABELS = "own gain predictor, without labels"
NOTHING_SMALL = {OWN: "own gain predictor, no small gains", WITHOUT_LABELS: "own gain predictor, without labels, no small gains"}
TWO_SPREADS = {OWN: "own gain predictor, two spreads off", WITHOUT_LABELS: "own gain predictor, without labels, two spreads off"}
BOTH = "own gain predictor, both kinds of labels"
NOT_TOWARDS_SOURCE = "own gain predictor, nothing moved to the source"
FOLDER = "own gain predictor, shrunk to the folder's mean"
CHEAP = {NO_VIEWS: "own gain predictor, no views", QUICK: "own gain predictor, quick"}
BEST = "the best candidate"


def of_candidate(blend: float, averaged: bool) -> GainsOfCases:
    """The gain of one candidate by itself; 0 for a case on which it failed."""
    columns = [FEATURES.index("blend"), FEATURES.index("averaged over views")]

    def gain(case: CalibrationCase) -> float:
        fits = np.abs(case.features[:, columns] - (blend, averaged)).sum(1) < 1e-6
        return float(case.gains[fits][0]) if fits.any() else 0.0

    return lambda cases: [gain(case) for case in cases]


def best_gains(cases: Sequence[CalibrationCase]) -> list[float]:
    """What the best candidate gains on each case, or the unadapted answer: what the candidates offer."""
    return [max(float(case.gains.max()), 0.0) for case in cases]


def passes_prefilter(predictor: GainPredictor, case: CalibrationCase) -> bool:
    """Whether a predictor's prefilter lets the candidates run."""
    return predictor.prefilter_gain(case.source_features) > predictor.prefilter_threshold


def of_predictor(predictor: GainPredictor) -> GainsOfCases:
    """The gains of what a gain predictor chooses; 0 where its prefilter says no."""

    def gain(case: CalibrationCase) -> float:
        return case.gain_of(predictor.weights(case.features)) if passes_prefilter(predictor, case) else 0.0

    return lambda cases: [gain(case) for case in cases]


def of_folder(predictor: GainPredictor) -> GainsOfCases:
    """The same, with predicted gains shrunk towards the mean over the folder's cases by empirical Bayes (Efron and Morris 1973).

    A candidate's gains vary from case to case by some variance, and each is known up to its spread. The gain of a case is shrunk
    by spread^2 / (spread^2 + variance). So nothing has to be chosen, and the order of the cases has no part in it. The spreads,
    and with them the margin, stay as they are.
    """

    def gains(cases: Sequence[CalibrationCase]) -> list[float]:
        predicted = [predictor.predict_gains(case.features) for case in cases]
        of_candidates: dict[tuple[float, ...], list[float]] = {}
        keys = [[candidate_of(row) for row in case.features] for case in cases]
        for case_keys, gains_of_case in zip(keys, predicted, strict=True):
            for key, value in zip(case_keys, gains_of_case.gain, strict=True):
                of_candidates.setdefault(key, []).append(float(value))
        found = []
        for case, case_keys, gains_of_case in zip(cases, keys, predicted, strict=True):
            mean = np.array([np.mean(of_candidates[key]) for key in case_keys])
            variance = np.array([np.var(of_candidates[key]) for key in case_keys])
            gain, spread = gains_of_case.gain, gains_of_case.spread
            shrinkage = spread**2 / np.maximum(spread**2 + variance, 1e-12)
            weights = predictor.mixture_weights(gains_of_case._replace(gain=gain + shrinkage * (mean - gain)))
            found.append(case.gain_of(weights) if passes_prefilter(predictor, case) else 0.0)
        return found

    return gains


def candidate_of(row: Floats) -> tuple[float, ...]:
    """Which candidate a row of features is of, and whether its views are averaged."""
    return tuple(float(value) for value in row[: len(CANDIDATE_FEATURES) + 1])


def not_towards_source(calibration: CalibrationSet) -> CalibrationSet:
    """The same cases without the answers to images that are moved towards the source's."""
    columns = [FEATURES.index(name) for name in ("source moments", "source amplitudes")]
    return replace(
        calibration, cases=[_answers_where(case, (case.features[:, columns] == 0).all(1)) for case in calibration.cases]
    )


def _answers_where(case: CalibrationCase, kept: np.ndarray) -> CalibrationCase:
    return replace(case, features=case.features[kept], gains=case.gains[kept], _probabilities=case._probabilities[kept])


def own_choices(kind: str, sets: Sets, harm: float) -> dict[str, tuple[str, GainsOfCases]]:
    """The choices for one network that need no other: for each its name, and of which of the target's sets it is one.

    Args:
        kind: of the network.
        sets: its calibration cases.
        harm: the wanted share of harmed cases.
    """
    # Without running statistics, the candidate that blends none of the source's is a step of consistency.
    always = "a step of consistency" if kind == "instance" else "present statistics"
    usual, without = sets[USUAL], sets[OWN_ANSWERS]
    both = replace(usual, cases=[*usual.cases, *without.cases])
    predictor = fit_predictor(usual, harm)
    without_labels = fit_predictor(without, harm)
    choices: dict[str, tuple[str, GainsOfCases]] = {
        always: (USUAL, of_candidate(1.0, averaged=False)),
        f"{always}, views averaged": (USUAL, of_candidate(1.0, averaged=True)),
        OWN: (USUAL, of_predictor(predictor)),
        WITHOUT_LABELS: (USUAL, of_predictor(without_labels)),
        NOTHING_SMALL[OWN]: (USUAL, of_predictor(replace(predictor, sure_spreads=None))),
        NOTHING_SMALL[WITHOUT_LABELS]: (USUAL, of_predictor(replace(without_labels, sure_spreads=None))),
        TWO_SPREADS[OWN]: (USUAL, of_predictor(replace(predictor, discount="two spreads"))),
        TWO_SPREADS[WITHOUT_LABELS]: (USUAL, of_predictor(replace(without_labels, discount="two spreads"))),
        BOTH: (USUAL, of_predictor(fit_predictor(both, harm))),
        FOLDER: (USUAL, of_folder(predictor)),
        BEST: (USUAL, best_gains),
    }
    for word, label in CHEAP.items():
        if word in sets:
            choices[label] = (word, of_predictor(fit_predictor(sets[word], harm)))
    if kind == "instance":
        choices[NOT_TOWARDS_SOURCE] = (NOT_TOWARDS_SOURCE, of_predictor(fit_predictor(not_towards_source(usual), harm)))
    return choices


def gains_at_targets(
    choices: Mapping[str, tuple[str, GainsOfCases]], targets: Mapping[str, tuple[bool, Sets]]
) -> list[dict[str, object]]:
    """What each choice gains at each target, in points of Dice, as rows of a table that JSON can hold."""
    rows: list[dict[str, object]] = []
    for target, (is_shifted, sets) in targets.items():
        source = [round(case.unadapted_dice, 5) for case in sets[USUAL].cases]
        for choice, (word, gains_of) in choices.items():
            cases = not_towards_source(sets[USUAL]).cases if word == NOT_TOWARDS_SOURCE else sets[word].cases
            gains = [round(100 * gain, 3) for gain in gains_of(cases)]
            rows.append({"target": target, "is shifted": is_shifted, "choice": choice, "source": source, "gains": gains})
    return rows
