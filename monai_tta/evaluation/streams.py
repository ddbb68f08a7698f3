"""Methods over streams of cases: a bundle's domains in several orders, one after the other and mixed, and back to the source.

Labels score the answers. No method sees them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch

from monai_tta.core.record import reasons_on_record_alone
from monai_tta.evaluation.contenders import Contender, stream_contenders
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, chosen_domains, protocol_of
from monai_tta.evaluation.scoring import scores_of
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import BundleError, SourceBundle, describe_error, load_bundle
from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.output_head import head_of
from monai_tta.reporting.stream_rows import BACK, StreamRow

Kind = Literal["apart", "mixed"]
KINDS: tuple[Kind, ...] = ("apart", "mixed")


@dataclass(frozen=True)
class StreamPlan:
    """Which streams there are.

    The source is the first domain of the bundle's compare.yaml, or of those named. A stream goes over the cases of the others,
    round after round, and ends with the cases of the source.

    Args:
        domains: labels of domains, the source first; empty for all.
        orders: seeds; each draws an order of domains and of the cases in them.
        rounds: how often a stream goes over its cases, in the same order.
        limit: cases of each domain at most; None for all.
    """

    domains: tuple[str, ...] = ()
    orders: tuple[int, ...] = (0, 1, 2)
    rounds: int = 3
    limit: int | None = None


@dataclass(frozen=True)
class StreamCase:
    """A case of a stream: its round (`BACK` for the return to the source), its domain, and its number there."""

    round: int
    domain: str
    case: int


def stream_cases(counts: Mapping[str, int], kind: Kind, order: int, rounds: int) -> list[StreamCase]:
    """The cases of a stream in their order, which is the same for all contenders.

    Args:
        counts: how many cases each domain has, the source first.
        kind: "apart" goes through one domain after the other, "mixed" through the cases of all in any order.
        order: the seed of the order.
        rounds: how often.
    """
    source, *others = counts
    draw = random.Random(order)
    draw.shuffle(others)
    cases = {name: draw.sample(range(counts[name]), counts[name]) for name in (*others, source)}
    one_round = [(name, case) for name in others for case in cases[name]]
    if kind == "mixed":
        draw.shuffle(one_round)
    away = [StreamCase(number, name, case) for number in range(1, rounds + 1) for name, case in one_round]
    return away + [StreamCase(BACK, source, case) for case in cases[source]]


def follow_streams(
    root: Path,
    dataset_dir: Path,
    checkpoint: str,
    contender: Contender,
    plan: StreamPlan,
    choices: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> list[StreamRow]:
    """Take one contender through all streams of a plan, with a new inferer for each stream.

    A contender that keeps nothing from case to case answers each case once.

    Args:
        root: a bundle with ``configs/evaluate.yaml`` and ``configs/compare.yaml``.
        dataset_dir: the labelled data.
        checkpoint: a file in the bundle's ``models``.
        contender: its own choices come before ``choices``.
        plan: which streams.
        choices: keyword arguments of `AdaptiveInferer`.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.

    Raises:
        BundleError: for fewer than two domains.
    """
    torch.set_num_threads(1)
    bundle = load_bundle(root, checkpoint, device)
    domains = stream_domains(root, plan)
    loaded = {domain.label: _LoadedDomain(root, dataset_dir, domain, plan.limit) for domain in domains}
    counts = {name: len(domain.cases) for name, domain in loaded.items()}
    options = {"head": head_of(loaded[domains[0].label].postprocessing), **(choices or {}), **contender.choices}
    method = contender.method.for_checkpoint(root / "models" / checkpoint)
    keeps_nothing = options.get("reset", "volume") != "never" or not method.learns
    rows: list[StreamRow] = []
    answered: dict[tuple[str, int], StreamRow] = {}
    for kind in KINDS:
        for order in plan.orders:
            inferer = AdaptiveInferer(method=method, inferer=bundle.inferer, seed=order, main_only=True, **options)
            for position, case in enumerate(stream_cases(counts, kind, order, plan.rounds)):
                row = answered.get((case.domain, case.case)) if keeps_nothing else None
                if row is None:
                    row = _answer(bundle, inferer, loaded[case.domain], case, contender.label)
                    answered[case.domain, case.case] = row
                rows.append(replace(row, kind=kind, order=order, position=position, round=case.round))
    return rows


def stream_domains(root: Path, plan: StreamPlan) -> list[Domain]:
    """The domains of a plan, the source first.

    Raises:
        BundleError: for an unknown domain, or fewer than two.
    """
    domains = chosen_domains(protocol_of(root), plan.domains)
    if len(domains) < 2:
        labels = [domain.label for domain in domains]
        raise BundleError(f"a stream needs a source and another domain, found {labels} in compare.yaml; name two with --domain")
    return domains


class _LoadedDomain:
    """The first cases of a domain, in memory, and the postprocessing of their answers."""

    def __init__(self, root: Path, dataset_dir: Path, domain: Domain, limit: int | None) -> None:
        labelled = LabelledDomain(root, dataset_dir, domain)
        count = len(labelled) if limit is None else min(limit, len(labelled))
        self.cases = [labelled.case(number) for number in range(count)]
        self.postprocessing = labelled.postprocessing()


def _answer(bundle: SourceBundle, inferer: AdaptiveInferer, domain: _LoadedDomain, case: StreamCase, label: str) -> StreamRow:
    """Answer and score one case; its place in the stream is filled in by the caller."""
    data = domain.cases[case.case]
    with torch.no_grad(), reasons_on_record_alone():
        logits = inferer(data["image"][None].as_tensor().to(bundle.device), bundle.network)
    scores = scores_of(domain.postprocessing(dict(data) | {"pred": logits[0].cpu()}), ("dice",))
    record = inferer.cases[-1]
    return StreamRow(
        contender=label,
        kind="",
        order=0,
        position=0,
        round=case.round,
        domain=case.domain,
        case=case.case,
        dice=tuple(score.dice for score in scores),
        weight_distance=record.weight_distance,
        reason=record.reason,
        restarted=record.restarted,
        seconds=record.seconds,
    )


def streams(
    root: Path,
    dataset_dir: Path,
    plan: StreamPlan = StreamPlan(),
    only: Sequence[str] = (),
    checkpoint: str = "model.pt",
    workers: int | None = None,
    device: str | None = None,
    done: Collection[str] = (),
    **choices: Any,
) -> Iterator[tuple[list[StreamRow], str | None]]:
    """Take all contenders, or the named ones, through the streams of a plan, one process for each.

    Arguments are those of `follow_streams`; ``workers`` is the number of processes, one per core by default.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        plan: which streams.
        only: labels of contenders; all for none.
        checkpoint: a file in the bundle's ``models`` folder.
        workers: how many processes; None for one per core.
        device: where networks compute, e.g. "cuda:0"; None for where the bundle puts its network.
        done: labels of contenders that are left out.
        choices: keyword arguments of `AdaptiveInferer`.

    Yields:
        as each contender is done, its rows and None; or no rows, and what went wrong.

    Raises:
        BundleError: for fewer than two domains, or one whose cases cannot be listed.
        ValueError: for a device that torch does not have here.
    """
    if device is not None:
        usable_device(device)
    todo = [contender for contender in stream_contenders(protocol_of(root), only) if contender.label not in done]
    for domain in stream_domains(root, plan):
        LabelledDomain(root, dataset_dir, domain)  # what it lacks is told once, before a process for each contender starts
    load_bundle(root, checkpoint, device)  # so is what the bundle lacks
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(follow_streams, root, dataset_dir, checkpoint, c, plan, choices, device): c.label for c in todo}
        for job in as_completed(jobs):
            try:
                yield job.result(), None
            except Exception as error:  # the other contenders' hours must not be lost
                yield [], f"{jobs[job]}: {describe_error(error)}"
