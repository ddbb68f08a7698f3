"""The evaluation protocol: methods by domains by checkpoints, per case and in a table. Labels never reach an adapter."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from monai.transforms import Compose, NormalizeIntensityd

from monai_tta.bundle import BundleError, SourceBundle, load_bundle
from monai_tta.inferer import AdaptiveInferer
from monai_tta.method import AdaptationMethod
from monai_tta.methods import Consistency, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.tasks import ConsistencyTask
from monai_tta.transforms.shift import BiasFieldShift, BlurNoiseShift, ContrastShift, ScannerShift, ScannerShiftd
from monai_tta.updates import Adam
from monai_tta.views import Restyling, Views

BETA = 1e-4  # the rate of the GraTa paper
HARM = 0.01  # a case is harmed when it loses more than one point of Dice


@dataclass(frozen=True)
class Contender:
    """A method with the choices it is run under; all get the same windows and budget."""

    label: str
    method: AdaptationMethod
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Domain:
    """Where the cases come from: a labelled split, possibly seen through a simulated scanner."""

    label: str
    split: str
    shift: type[ScannerShift] | None = None
    severity: int = 3


@dataclass(frozen=True)
class Row:
    """One case answered by one contender: Dice per label in [0, 1], seconds."""

    checkpoint: str
    domain: str
    contender: str
    case: int
    dice: tuple[float, ...]
    seconds: float
    reason: str | None


def contenders() -> list[Contender]:
    """GraTa, its parts and its controls."""
    task = ConsistencyTask(restyling=Restyling("mri"))
    trained = Views(axes=(0,))  # left-right: the only mirror the source networks were trained with
    known = ConsistencyTask(restyling=Restyling("mri"), views=trained)
    grata = partial(GraTa, pseudo=task)
    consistency = partial(Consistency, objective=task)
    never, window = {"reset": "never"}, {"learn": "window"}
    return [
        Contender("Source", Source()),
        Contender("View average, three mirrors", ViewAverage()),
        Contender("View average, left-right", ViewAverage(views=trained)),
        *[Contender(f"Statistics, window, blend {b}", Statistics(blend=b)) for b in (0.1, 0.3, 1.0)],
        *[Contender(f"Statistics, volume, blend {b}", Statistics(blend=b, statistics="volume")) for b in (0.1, 0.3, 1.0)],
        Contender("Tent", Tent()),
        Contender("Consistency, beta", consistency(optimizer=Adam(rate=BETA))),
        Contender("Consistency, beta/4", consistency(optimizer=Adam(rate=BETA / 4))),
        Contender("GraTa", grata()),
        Contender("GraTa, left-right views", GraTa(pseudo=known)),
        Contender("GraTa, left-right views, 10 beta, 4 steps", GraTa(pseudo=known, optimizer=Adam(rate=10 * BETA), steps=4)),
        Contender("GraTa, 4 steps", grata(steps=4)),
        Contender("GraTa, continual", grata(), never),
        Contender("GraTa, 4 steps, continual", grata(steps=4), never),
        Contender("GraTa, learn window", grata(), window),
        Contender("GraTa, learn window, continual", grata(), window | never),
        Contender("GraTa, volume statistics, blend 0.3", grata(statistics="volume", blend=0.3)),
    ]


def domains() -> list[Domain]:
    """Unshifted, another acquisition group, and three simulated scanners."""
    shifts = ((BiasFieldShift, 3), (ContrastShift, 4), (BlurNoiseShift, 3))
    simulated = [Domain(f"{s.__name__} {severity}", "source_val", s, severity) for s, severity in shifts]
    return [Domain("source_val", "source_val"), Domain("target", "target"), *simulated]


def labelled(root: Path, dataset_dir: Path, domain: Domain) -> Iterator[dict[str, Any]]:
    """The domain's cases through the bundle's own preprocessing, the simulated scanner before its normalisation."""
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / "inference.yaml"), str(root / "configs" / "evaluate.yaml")])
    parser["dataset_dir"], parser["split"] = str(dataset_dir), domain.split
    parser.parse()
    cases = parser.get_parsed_content("datalist")
    if not cases:
        raise BundleError(f"{dataset_dir} has no case in split {domain.split!r}")
    steps = list(parser.get_parsed_content("preprocessing").transforms)
    place = next((i for i, t in enumerate(steps) if isinstance(t, NormalizeIntensityd)), len(steps))
    for number, case in enumerate(cases):
        scanner = [ScannerShiftd("image", domain.shift(domain.severity, number))] if domain.shift else []
        yield Compose([*steps[:place], *scanner, *steps[place:]])(case)


def dice(logits: torch.Tensor, label: torch.Tensor) -> tuple[float, ...]:
    """Dice of each foreground label by MONAI's metric; an empty label that is left empty counts 1."""
    classes = logits.shape[1]
    metric = DiceMetric(include_background=False, ignore_empty=False)
    scores = metric(one_hot(logits.argmax(1, keepdim=True), classes), one_hot(label[None], classes))
    return tuple(float(s) for s in scores[0])


def score(root: Path, dataset_dir: Path, checkpoint: str, domain: Domain, runners: Sequence[Contender]) -> list[Row]:
    """Every contender on every case of a domain, in the same order."""
    torch.set_num_threads(1)
    bundle: SourceBundle = load_bundle(root, checkpoint)
    cases = list(labelled(root, dataset_dir, domain))
    rows = []
    for contender in runners:
        inferer = AdaptiveInferer(method=contender.method, inferer=bundle.inferer, **contender.choices)
        for number, data in enumerate(cases):
            with torch.no_grad():
                logits = inferer(data["image"][None].as_tensor(), bundle.network)
            scores, case = dice(logits, data["label"].as_tensor()), inferer.cases[-1]
            rows.append(Row(checkpoint, domain.label, contender.label, number, scores, case.seconds, case.reason))
    return rows


def compare(
    root: Path, dataset_dir: Path, checkpoints: Iterable[str], workers: int | None = None
) -> Iterator[tuple[list[Row], str | None]]:
    """Run the whole protocol, one process per checkpoint and domain at a time.

    Yields:
        the rows of a checkpoint and domain as it is done, in the order of the protocol; or none, and what went wrong.
    """
    todo = [(c, d) for c in checkpoints for d in domains()]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(score, root, dataset_dir, c, d, contenders()) for c, d in todo]
        for (checkpoint, domain), job in zip(todo, jobs, strict=True):
            try:
                yield job.result(), None
            except Exception as error:  # the other domains' hours must not be lost
                yield [], f"{checkpoint}, {domain.label}: {type(error).__name__}: {error}"


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Raw rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) | {"dice": " ".join(f"{d:.4f}" for d in row.dice)} for row in rows)


def markdown(rows: Sequence[Row]) -> str:
    """One table per checkpoint and domain."""
    lines = []
    for key in dict.fromkeys((r.checkpoint, r.domain) for r in rows):
        here = [r for r in rows if (r.checkpoint, r.domain) == key]
        source = {r.case: fmean(r.dice) for r in here if r.contender == "Source"}
        labels = " | ".join(f"Dice {k + 1}" for k in range(len(here[0].dice)))
        lines += [f"\n**{key[0]}, {key[1]}** ({len(source)} cases)\n"]
        lines += [f"| method | {labels} | change (points) | harmed | worst case (points) | s / case |"]
        lines += ["|" + "---|" * (len(here[0].dice) + 5)]
        for name in dict.fromkeys(r.contender for r in here):
            own = [r for r in here if r.contender == name]
            change = [fmean(r.dice) - source[r.case] for r in own]
            means = " | ".join(f"{fmean(r.dice[k] for r in own):.3f}" for k in range(len(own[0].dice)))
            harmed = fmean(c < -HARM for c in change)
            figures = (
                f"{100 * fmean(change):+.1f} | {harmed:.0%} | {100 * min(change):+.1f} | {fmean(r.seconds for r in own):.2f}"
            )
            lines += [f"| {name} | {means} | {figures} |"]
    return "\n".join(lines) + "\n"
