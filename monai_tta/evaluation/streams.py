"""Continual use as a protocol: methods over streams of a bundle's domains, in several orders, apart and mixed, round after round,
and back to the source. Labels never reach an adapter."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch

from monai_tta.evaluation.contenders import Contender, stream_contenders
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import chosen_domains, protocol_of
from monai_tta.evaluation.scoring import scores_of
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.output_head import head_of
from monai_tta.reporting.stream_rows import BACK, StreamRow

Kind = Literal["apart", "mixed"]
KINDS: tuple[Kind, ...] = ("apart", "mixed")


@dataclass(frozen=True)
class StreamPlan:
    """Which streams are followed.

    The source is the first domain of the bundle's compare.yaml, or of those named; the others make the rounds, and every stream
    ends in the source.

    Args:
        places: the domains' labels; empty for all.
        orders: seeds; each draws an order of domains and of the cases in them.
        rounds: how often a stream goes over its cases, in the same order.
        limit: cases of each domain at most; None for all.
    """

    places: tuple[str, ...] = ()
    orders: tuple[int, ...] = (0, 1, 2)
    rounds: int = 3
    limit: int | None = None


@dataclass(frozen=True)
class StreamCase:
    """A case of a stream: in which round (`BACK`: the return to the source), of which domain, the how-manieth of it."""

    round: int
    domain: str
    case: int


def route(counts: Mapping[str, int], kind: Kind, order: int, rounds: int) -> list[StreamCase]:
    """The stops of a stream, the same for all contenders.

    Args:
        counts: how many cases each domain has, the source first.
        kind: "apart" goes through one domain after the other, "mixed" through all cases as they come.
        order: the seed of the order.
        rounds: how often.
    """
    source, *others = counts
    draw = random.Random(order)
    draw.shuffle(others)
    cases = {name: draw.sample(range(counts[name]), counts[name]) for name in (*others, source)}
    one = [(name, case) for name in others for case in cases[name]]
    if kind == "mixed":
        draw.shuffle(one)
    away = [StreamCase(k, name, case) for k in range(1, rounds + 1) for name, case in one]
    return away + [StreamCase(BACK, source, case) for case in cases[source]]


def walk(
    root: Path, dataset_dir: Path, checkpoint: str, contender: Contender, plan: StreamPlan, choices: Any = None
) -> list[StreamRow]:
    """One contender through all streams of a plan, an inferer for each stream.

    ``choices`` are keyword arguments of `AdaptiveInferer`; the contender's own come before them. What depends on nothing but the
    case is answered once.
    """
    torch.set_num_threads(1)
    bundle, protocol = load_bundle(root, checkpoint), protocol_of(root)
    domains = chosen_domains(protocol, plan.places)
    if len(domains) < 2:
        raise BundleError(f"a stream needs a source and another domain, found {[d.label for d in domains]} in compare.yaml")
    cohorts = {d.label: LabelledDomain(root, dataset_dir, d) for d in domains}
    cases = {name: [c.case(k) for k in islice(range(len(c)), plan.limit)] for name, c in cohorts.items()}
    posts = {name: cohort.postprocessing() for name, cohort in cohorts.items()}
    chosen = dict(choices or {}) | contender.choices
    forgets = chosen.get("reset", "volume") != "never" or not contender.method.learns
    rows: list[StreamRow] = []
    known: dict[tuple[str, int], StreamRow] = {}
    for kind, order in ((k, o) for k in KINDS for o in plan.orders):
        head = head_of(posts[domains[0].label])
        inferer = AdaptiveInferer(method=contender.method, inferer=bundle.inferer, head=head, seed=order, **chosen)
        for position, stop in enumerate(route({name: len(c) for name, c in cases.items()}, kind, order, plan.rounds)):
            make = partial(StreamRow, contender.label, kind, order, position, stop.round, stop.domain, stop.case)
            place = (stop.domain, stop.case)
            if forgets and place in known:
                old = known[place]
                rows.append(make(old.dice, old.weight_distance, old.reason, old.restarted, old.seconds))
                continue
            data = cases[stop.domain][stop.case]
            with torch.no_grad():
                logits = inferer(data["image"][None].as_tensor().to(bundle.device), bundle.network)
            found = posts[stop.domain](dict(data) | {"pred": logits[0]})
            scores, record = tuple(score.dice for score in scores_of(found, ("dice",))), inferer.cases[-1]
            rows.append(make(scores, record.weight_distance, record.reason, record.restarted, record.seconds))
            known[place] = rows[-1]
    return rows


def streams(
    root: Path,
    dataset_dir: Path,
    plan: StreamPlan = StreamPlan(),
    only: Sequence[str] = (),
    checkpoint: str = "model.pt",
    workers: int | None = None,
    **choices: Any,
) -> Iterator[tuple[list[StreamRow], str | None]]:
    """Run all contenders, or those named, one process for each.

    Yields:
        a contender's rows as it is done; or none, and what went wrong.
    """
    todo = stream_contenders(protocol_of(root), only)
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(walk, root, dataset_dir, checkpoint, c, plan, choices): c.label for c in todo}
        for job in as_completed(jobs):
            try:
                yield job.result(), None
            except Exception as error:  # the other contenders' hours must not be lost
                yield [], f"{jobs[job]}: {type(error).__name__}: {error}"
