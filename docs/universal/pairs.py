"""How the judges do on images from elsewhere: `python -m docs.universal.pairs OUT ...` with the same options as `docs.universal`.

Each small network is asked about its own centre's held-out images and about other scanners', real and drawn. Compared are its
own judge, a judge pooled over all *other* tasks (this network and its task were never seen), and answers without a judge.
"""

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from docs.universal.__main__ import console, jobs, options
from docs.universal.networks import KINDS, LONG, SHORT, ask, trained
from docs.universal.sources import centres, targets
from monai_tta.methods.careful import Careful
from monai_tta.preparation.examples import CalibrationCase, CalibrationSet
from monai_tta.preparation.fit import fit_predictor, fit_universal_predictor
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.reporting.significance import HARM

CandidateTrial = Callable[[CalibrationCase], float]


def front(blend: float, averaged: bool) -> CandidateTrial:
    """The gain of one candidate by itself."""
    wanted = [FEATURES.index("blend"), FEATURES.index("averaged")]

    def gain(case: CalibrationCase) -> float:
        fits = np.abs(case.table[:, wanted] - (blend, averaged)).sum(1) < 1e-6
        return float(case.gains[fits][0]) if fits.any() else 0.0

    return gain


def judged(predictor: GainPredictor) -> CandidateTrial:
    """The gain of what a judge chooses, where its scout doesn't say no."""
    return lambda case: (
        case.gain_of(predictor.weigh(case.table)) if predictor.expected_gain(case.first) > predictor.prefilter_threshold else 0.0
    )


def asked(name: str, kind: str, places: dict[str, Path | None], file: Path) -> dict[str, tuple[bool, CalibrationSet]]:
    """A network's cases at each target, kept in a file."""
    torch.set_num_threads(1)
    if not file.exists():
        all_agree = centres(**places)
        centre = all_agree[name]
        net, found = trained(centre, kind, LONG if name in ("hrf", "idrid") else SHORT), {}
        for label, shifted, pairs in targets(name, all_agree, places["hippocampus"]):
            cases = CalibrationSet(label)
            for k, (x, y) in enumerate(pairs):
                ask(net, Careful(), x, y, centre.head, cases, k, k)
            found[label] = (shifted, cases)
        file.write_bytes(pickle.dumps(found))
    return dict(pickle.loads(file.read_bytes()))


def row(label: str, gains: list[float]) -> str:
    """One line of the table, in points."""
    g = 100 * np.array(gains)
    return f"| {label} | {g.mean():+.1f} | {np.mean(g < -100 * HARM):.0%} | {g.min():+.1f} |"


def main() -> None:
    """See the top of this file."""
    said, places = options("docs.universal.pairs")
    todo = [(name, rest[0]) for name, rest in jobs(places, said.size) if name in KINDS]
    todo = [(name, kind) for name, kind in todo if not said.only or f"{name} {kind}" in said.only]
    files = [said.out / f"pairs-{name}-{kind}.pickle" for name, kind in todo]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(asked, *zip(*todo, strict=True), [places] * len(todo), files))
    every: list[CalibrationSet] = [pickle.loads(f.read_bytes()) for f in sorted(said.out.glob("[0-9][0-9].pickle"))]
    overall: dict[str, list[tuple[bool, list[float]]]] = {}

    @cache
    def unseen(task: str) -> GainPredictor:
        return fit_universal_predictor([c for c in every if not c.name.startswith(f"{task}/")], said.harm)

    for (name, kind), by_target in zip(todo, found, strict=True):
        task = centres(**places)[name].task
        own = next(c for c in every if c.name == f"{task}/{name} {kind}")
        # Without a memory of statistics, the candidate that blends none of the source's is a step of consistency.
        plainest = "a step of consistency" if kind == "instance" else "present statistics"
        ways = {
            plainest: front(1.0, False),
            f"{plainest}, views": front(1.0, True),
            "own judge": judged(fit_predictor(own, said.harm)),
            "judge of other tasks": judged(unseen(task)),
        }
        for target, (shifted, cases) in by_target.items():
            source = np.mean([k.plain for k in cases.known])
            console.print(f"\n{name} {kind} -> {target} ({len(cases.known)} cases, source {source:.3f})")
            for way, answer in ways.items():
                gains = [answer(k) for k in cases.known]
                overall.setdefault(way, []).append((shifted, gains))
                console.print(row(way, gains), soft_wrap=True)
    for way, results in overall.items():
        for wanted, word in ((True, "shifted"), (False, "unshifted")):
            some = [g for shifted, g in results if shifted == wanted]
            means, flat = [float(np.mean(g)) for g in some], [v for g in some for v in g]
            harmed = [float(np.mean(np.array(g) < -HARM)) for g in some]
            console.print(
                f"{way}, {len(some)} pairs {word}: mean {100 * np.mean(means):+.2f}, worst pair {100 * min(means):+.2f}, "
                f"harmed {np.mean(np.array(flat) < -HARM):.1%}, of one pair {max(harmed):.0%}, "
                f"worst case {100 * min(flat):+.1f}",
                soft_wrap=True,
            )


if __name__ == "__main__":
    main()
