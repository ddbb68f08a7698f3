"""How gain predictors do on images from elsewhere: `python -m docs.universal.pairs OUT ...`, with the options of docs.universal.

Each small network segments its own centre's held-out images, and images of other scanners, real and drawn. Compared are its own
gain predictor, one pooled over all *other* tasks (which has seen neither this network nor its task), and candidates without a
gain predictor.
"""

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from docs.universal.__main__ import console, parse_command_line
from docs.universal.networks import KINDS, add_image, train
from docs.universal.sources import centres, targets
from monai_tta.preparation.examples import CalibrationCase, CalibrationSet
from monai_tta.preparation.fit import fit_predictor, fit_universal_predictor
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.reporting.significance import HARM

GainOfCase = Callable[[CalibrationCase], float]


def of_candidate(blend: float, averaged: bool) -> GainOfCase:
    """The gain of one candidate by itself; 0 for a case on which it failed."""
    columns = [FEATURES.index("blend"), FEATURES.index("averaged over views")]

    def gain(case: CalibrationCase) -> float:
        fits = np.abs(case.features[:, columns] - (blend, averaged)).sum(1) < 1e-6
        return float(case.gains[fits][0]) if fits.any() else 0.0

    return gain


def of_predictor(predictor: GainPredictor) -> GainOfCase:
    """The gain of what a gain predictor chooses; 0 where its prefilter says no."""

    def gain(case: CalibrationCase) -> float:
        if predictor.prefilter_gain(case.source_features) <= predictor.prefilter_threshold:
            return 0.0
        return case.gain_of(predictor.weights(case.features))

    return gain


def cases_at_targets(name: str, kind: str, folders: dict[str, Path | None], file: Path) -> dict[str, tuple[bool, CalibrationSet]]:
    """A network's cases at each target, and whether that is another scanner; kept in a file."""
    torch.set_num_threads(1)
    if not file.exists():
        all_centres = centres(**folders)
        centre = all_centres[name]
        network = train(name, centre, kind)
        found = {}
        for label, is_shifted, pairs in targets(name, all_centres, folders["hippocampus"]):
            cases = CalibrationSet(label)
            for number, (image, structures) in enumerate(pairs):
                add_image(cases, number, network, image, structures, centre.head, number)
            found[label] = (is_shifted, cases)
        file.write_bytes(pickle.dumps(found))
    return dict(pickle.loads(file.read_bytes()))


def table_row(label: str, gains: list[float]) -> str:
    """One line of a pair's table, in points: mean change, cases harmed, worst case."""
    points = 100 * np.array(gains)
    return f"| {label} | {points.mean():+.1f} | {np.mean(points < -100 * HARM):.0%} | {points.min():+.1f} |"


def summary_line(label: str, pairs: list[list[float]]) -> str:
    """One line about all pairs of a kind."""
    means = [float(np.mean(gains)) for gains in pairs]
    harmed = [float(np.mean(np.array(gains) < -HARM)) for gains in pairs]
    all_gains = np.array([gain for gains in pairs for gain in gains])
    return (
        f"{label}: mean {100 * np.mean(means):+.2f}, worst pair {100 * min(means):+.2f}, "
        f"harmed {np.mean(all_gains < -HARM):.1%}, of one pair {max(harmed):.0%}, worst case {100 * all_gains.min():+.1f}"
    )


def main() -> None:
    """See the top of this file."""
    options, folders = parse_command_line("docs.universal.pairs")
    todo = [(name, kind) for name in centres(**folders) for kind in KINDS[name]]
    todo = [(name, kind) for name, kind in todo if not options.only or f"{name} {kind}" in options.only]
    files = [options.out / f"pairs-{name}-{kind}.pickle" for name, kind in todo]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(cases_at_targets, *zip(*todo, strict=True), [folders] * len(todo), files))
    networks: list[CalibrationSet] = [pickle.loads(file.read_bytes()) for file in sorted(options.out.glob("[0-9][0-9].pickle"))]
    all_pairs: dict[str, list[tuple[bool, list[float]]]] = {}

    @cache
    def of_other_tasks(task: str) -> GainPredictor:
        others = [network for network in networks if not network.name.startswith(f"{task}/")]
        return fit_universal_predictor(others, options.harm)

    for (name, kind), by_target in zip(todo, found, strict=True):
        task = centres(**folders)[name].task
        own = next(network for network in networks if network.name == f"{task}/{name} {kind}")
        # Without running statistics, the candidate that blends none of the source's is a step of consistency.
        always = "a step of consistency" if kind == "instance" else "present statistics"
        choices = {
            always: of_candidate(1.0, averaged=False),
            f"{always}, views averaged": of_candidate(1.0, averaged=True),
            "own gain predictor": of_predictor(fit_predictor(own, options.harm)),
            "gain predictor of other tasks": of_predictor(of_other_tasks(task)),
        }
        for target, (is_shifted, calibration) in by_target.items():
            cases = calibration.cases
            source = np.mean([case.unadapted_dice for case in cases])
            console.print(f"\n{name} {kind} -> {target} ({len(cases)} cases, source {source:.3f})")
            for label, gain_of in choices.items():
                gains = [gain_of(case) for case in cases]
                all_pairs.setdefault(label, []).append((is_shifted, gains))
                console.print(table_row(label, gains), soft_wrap=True)
    for label, pairs in all_pairs.items():
        for wanted, word in ((True, "shifted"), (False, "unshifted")):
            chosen = [gains for is_shifted, gains in pairs if is_shifted == wanted]
            console.print(summary_line(f"{label}, {len(chosen)} pairs {word}", chosen), soft_wrap=True)


if __name__ == "__main__":
    main()
