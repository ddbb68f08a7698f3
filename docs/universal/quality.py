"""What quality predictors say of masks of images from elsewhere: `python -m docs.universal.quality OUT`, as docs.universal.

Each small network answers distorted images of its own centre, and its quality predictor is fitted to them, as by `monai-tta
calibrate --quality-only`. Then it answers images of its own centre as they are, and images of other scanners. Nothing adapts.
Printed is how far off the expected figures of a structure are, how often the true one lies in the interval, and how well masks
are sorted: by their ranking, by the expected Dice, and by single signals. The cases of each network are kept in OUT.
"""

import pickle
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from docs.universal.__main__ import console, parse_command_line
from docs.universal.networks import KINDS, train
from docs.universal.sources import centres, targets
from monai_tta.core.record import StructureQuality
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import run_candidates
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit_quality import SOURCE_ROW, fit_quality
from monai_tta.quality.failure_detection import normalized_excess_aurc
from monai_tta.quality.quality_predictor import FIGURES
from monai_tta.quality.structure_features import SIGNALS, STRUCTURE_FEATURES

SIZE = 160  # distorted images, as `monai-tta calibrate` makes
ALONE = CalibrationSettings(quality_only=True).tried
EXPECTED = "expected Dice"
RANKED = "ranking"
Targets = dict[str, tuple[bool, CalibrationSet]]


@dataclass(frozen=True)
class Measured:
    """What was said of one structure in all masks of a pair.

    Args:
        network: and its kind.
        structure: its number, from 0.
        is_shifted: whether the images come from another scanner.
        off: how far the expected figure was off, for each of `FIGURES`; mean over masks.
        off_by_mean: how far off it is to expect the home images' mean of every mask.
        inside: the share of true figures in their interval.
        width: of the intervals, on average.
        dice: the true one of each mask.
        confidences: by what masks can be sorted, a number for each mask.
    """

    network: str
    structure: int
    is_shifted: bool
    off: dict[str, float]
    off_by_mean: dict[str, float]
    inside: dict[str, float]
    width: dict[str, float]
    dice: np.ndarray
    confidences: dict[str, np.ndarray]


def cases_of_network(name: str, kind: str, folders: dict[str, Path | None], file: Path) -> str:
    """Train a network and keep its cases, at home and elsewhere, unless they are there."""
    torch.set_num_threads(1)
    if file.exists():
        return file.name
    all_centres = centres(**folders)
    centre = all_centres[name]
    network = train(name, centre, kind)
    home = CalibrationSet(f"{name} {kind}")
    distort = Distortion(centre.preserve)
    pairs = [*centre.images()[centre.train :], *centre.images()[: centre.train]]
    for number in range(SIZE):
        group = number % len(pairs)
        image, label = distort(*pairs[group], number)
        run_candidates(home, group, network, image[None], label[None], centre.head, ALONE, number)
    elsewhere: Targets = {}
    for label, is_shifted, images in targets(name, all_centres, folders["hippocampus"]):
        elsewhere[label] = (is_shifted, CalibrationSet(label))
        for number, (image, structures) in enumerate(images):
            run_candidates(elsewhere[label][1], number, network, image[None], structures[None], centre.head, ALONE, number)
    file.write_bytes(pickle.dumps((home, elsewhere)))  # our own, read again below; nothing of it is shipped
    return file.name


def measure(file: Path) -> list[Measured]:
    """What the network's quality predictor says of its masks, pair by pair and structure by structure."""
    home, elsewhere = pickle.loads(file.read_bytes())
    predictor = fit_quality(home, 1)
    found = []
    for is_shifted, pair in elsewhere.values():
        said = [predictor.predict(case.structure_features[SOURCE_ROW], adapted=False) for case in pair.cases]
        for k in range(len(predictor.structures)):
            of_home = {figure: np.mean([truth_of(case, figure)[k] for case in home.cases]) for figure in FIGURES}
            truth = {figure: np.array([truth_of(case, figure)[k] for case in pair.cases]) for figure in FIGURES}
            ends = {"dice": ("dice", "low", "high"), "nsd": ("nsd", "nsd_low", "nsd_high")}
            of_figure = {f: np.array([[getattr(one[k], name) for name in ends[f]] for one in said]).T for f in FIGURES}
            table = np.stack([case.structure_features[SOURCE_ROW, k] for case in pair.cases])
            found.append(
                Measured(
                    home.name,
                    k,
                    is_shifted,
                    {f: float(np.abs(truth[f] - of_figure[f][0]).mean()) for f in FIGURES},
                    {f: float(np.abs(truth[f] - of_home[f]).mean()) for f in FIGURES},
                    {f: float(np.mean((of_figure[f][1] <= truth[f]) & (truth[f] <= of_figure[f][2]))) for f in FIGURES},
                    {f: float(np.mean(of_figure[f][2] - of_figure[f][1])) for f in FIGURES},
                    truth["dice"],
                    confidences_of(table, [one[k] for one in said]),
                )
            )
    return found


def truth_of(case: object, figure: str) -> np.ndarray:
    """The true figure of each structure of the network's own answer."""
    return np.asarray(getattr(case, f"structure_{figure}")[SOURCE_ROW])


def confidences_of(table: np.ndarray, said: Sequence[StructureQuality]) -> dict[str, np.ndarray]:
    """The ranking, the expected Dice and each single signal of masks: the better, the higher."""
    found = {RANKED: np.array([one.ranking for one in said]), EXPECTED: np.array([one.dice for one in said])}
    return found | {name: sign * table[:, STRUCTURE_FEATURES.index(name)] for name, sign in SIGNALS.items()}


def mean_excess(name: str, groups: Iterable[Sequence[Measured]]) -> str:
    """e-AURC as a share of chance, each group's masks in one line by one confidence; the mean over groups where it is defined."""
    found = []
    for rows in groups:
        confidence = np.concatenate([row.confidences[name] for row in rows])
        found.append(normalized_excess_aurc(confidence, 1 - np.concatenate([row.dice for row in rows])))
    return f"{np.nanmean(found):.2f}"


def row_of(name: str, rows: Sequence[Measured]) -> str:
    """A row of the table of expected figures."""
    cells = [name, str(len(rows))]
    for figure in FIGURES:
        off, by_mean, inside, width = (
            np.mean([getattr(row, what)[figure] for row in rows]) for what in ("off", "off_by_mean", "inside", "width")
        )
        cells += [f"{off:.3f}", f"{by_mean:.3f}", f"{inside:.0%}", f"{width:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """See the top of this file."""
    options, folders = parse_command_line("docs.universal.quality")
    everyone = [(name, kind) for name in centres(**folders) for kind in KINDS[name]]
    todo = [pair for pair in everyone if not options.only or " ".join(pair) in options.only]
    files = [options.out / f"quality-{name}-{kind}.pickle" for name, kind in todo]
    measured: list[Measured] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        names, kinds = zip(*todo, strict=True)
        for name in pool.map(cases_of_network, names, kinds, [folders] * len(todo), files):
            console.print(f"{name}: answered")
        for found in pool.map(measure, files):
            measured += found
    print_tables(measured)


def table_line(text: str) -> None:
    """Print a line of a table, however long it is."""
    console.print(text, soft_wrap=True)


def print_tables(measured: Sequence[Measured]) -> None:
    """Print what was expected of each group of pairs, and what sorts their masks best."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for row in measured:
        where = "shifted" if row.is_shifted else "no shift"
        norm = "InstanceNorm" if row.network.endswith("instance") else "BatchNorm"
        groups[f"{where}, {norm}"].append(row)
        groups[f"{where}, all"].append(row)
    table_line(
        "| pairs | structures | Dice off by | by the mean | inside | width | surface off by | by the mean | inside | width |"
    )
    table_line("|---|---|---|---|---|---|---|---|---|---|")
    for name in sorted(groups, reverse=True):
        table_line(row_of(name, groups[name]))
    networks: dict[tuple[str, int], list[Measured]] = defaultdict(list)
    for row in measured:
        networks[row.network, row.structure].append(row)
    table_line("\n| sorted by | excess, shifted pairs | pairs without a shift | all images of a network |\n|---|---|---|---|")
    for name in (RANKED, EXPECTED, *SIGNALS):
        pairs = [[[row] for row in groups[f"{where}, all"]] for where in ("shifted", "no shift")]
        cells = [mean_excess(name, some) for some in (*pairs, networks.values())]
        table_line(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
