"""The evaluation protocol: methods by domains by checkpoints by seeds, a row per case. Labels never reach an adapter."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from datetime import date
from functools import lru_cache
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch

from monai_tta.compute.memory import memory_rise
from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.plan import ComparisonJob, ComparisonPlan, jobs_of
from monai_tta.evaluation.protocol import Domain
from monai_tta.evaluation.scoring import scores_of
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.bundle_predictor import with_bundle_predictor
from monai_tta.pipeline.output_head import head_of
from monai_tta.reporting.rows import Row, RowFile


@lru_cache(maxsize=1)
def _bundle(root: Path, checkpoint: str) -> SourceBundle:
    return load_bundle(root, checkpoint)


@lru_cache(maxsize=1)
def _cohort(root: Path, dataset_dir: Path, domain: str) -> LabelledDomain:
    return LabelledDomain(root, dataset_dir, Domain(**json.loads(domain)))


def work(job: ComparisonJob) -> tuple[list[Row], list[str]]:
    """Do a job: its rows, and a line for each case that failed, whose neighbours go on.

    Raises:
        BundleError: when the bundle or the domain can't be had at all.
    """
    bundle = _bundle(job.plan.root, job.checkpoint)
    cohort = _cohort(job.plan.root, job.plan.dataset_dir, json.dumps(asdict(job.domain)))
    post = cohort.postprocessing()
    given: dict[str, Any] = {"budget": job.budget or None, "seed": job.seed, "precision": job.plan.precision}
    methods = [with_bundle_predictor(c.method, job.plan.root, job.checkpoint) for c in job.contenders]
    inferers = [
        AdaptiveInferer(method=m, inferer=bundle.inferer, head=head_of(post), **given | c.choices)
        for m, c in zip(methods, job.contenders, strict=True)
    ]
    rows, failures = [], []
    for number in job.numbers:
        where = f"{job.checkpoint}, {job.domain.label}, case {number}"
        try:
            data = cohort.case(number, job.seed)
        except Exception as error:  # one file that can't be read must not cost the others' hours
            failures.append(f"{where}: {type(error).__name__}: {error}")
            continue
        for contender, inferer in zip(job.contenders, inferers, strict=True):
            try:
                rows.append(_row(job, contender, number, cohort, inferer, data))
            except Exception as error:  # nor one method that fails
                failures.append(f"{where}, {contender.label}: {type(error).__name__}: {error}")
    return rows, failures


def _row(
    job: ComparisonJob, contender: Contender, number: int, cohort: LabelledDomain, inferer: AdaptiveInferer, data: dict[str, Any]
) -> Row:
    """One answer and what it is worth. The inferer is handed the image and nothing else."""
    bundle = _bundle(job.plan.root, job.checkpoint)
    image = data["image"][None].as_tensor().to(bundle.device)
    with torch.no_grad(), memory_rise(bundle.device) as memory:
        logits = inferer(image, bundle.network)[0].cpu()
    found = cohort.postprocessing()(dict(data) | {"pred": logits.clone()})
    scores = scores_of(found, job.plan.metrics, cohort.protocol.tolerance)
    case = inferer.cases[-1]
    digest = sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()[:16]
    shift = job.domain.shift and job.domain.shift.rsplit(".", 1)[-1]
    of = (shift, job.domain.severity if shift else None, cohort.groups[number])
    return Row(job.key(contender, number), scores, *of, case.seconds, memory[0], digest, case.reason)


def compare(plan: ComparisonPlan, out: Path, workers: int | None = None) -> Iterator[tuple[int, int, list[str]]]:
    """Do what is not done yet, in parallel over cases, and keep each job's rows in ``out/rows.sqlite`` as it is done.

    The same call again goes on where it was stopped. No more is lost by a kill than what was being answered.

    Args:
        plan: what is to be compared.
        out: the folder.
        workers: processes, of one thread each; one per core by default.

    Yields:
        how many jobs are done, of how many, and what went wrong in the last one.

    Raises:
        RowsError: when the file was begun with other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = RowFile(out / "rows.sqlite")
    try:
        file.settle({"begun": file.settings().get("begun", date.today().isoformat())} | plan.settings())
        sizes: dict[str, int] = {}
        for domain in plan.places():
            try:
                cohort = LabelledDomain(plan.root, plan.dataset_dir, domain)
            except Exception as error:  # the other domains' data are there
                yield 0, 0, [f"{domain.label}: {type(error).__name__}: {error}"]
                continue
            file.settle({"domains": {domain.label: [len(cohort), cohort.digest]}})
            sizes[domain.label] = len(cohort)
        jobs = list(jobs_of(plan, file.done(), sizes))
        for number, (rows, failures) in enumerate(_pooled(jobs, workers or os.cpu_count() or 1), 1):
            file.add(rows)
            yield number, len(jobs), failures
    finally:
        file.close()


def _pooled(jobs: Sequence[ComparisonJob], workers: int) -> Iterator[tuple[list[Row], list[str]]]:
    """Every job's outcome, in the order in which they come. Jobs whose process died (of memory, most of all) are tried once
    more, each in a process of its own."""
    lost = []
    pool = ProcessPoolExecutor(max(1, min(workers, len(jobs))), get_context("spawn"), _begin)
    try:
        doing = {pool.submit(work, job): job for job in jobs}
        for future in as_completed(doing):
            if isinstance(future.exception(), BrokenProcessPool):
                lost.append(doing[future])
            else:
                yield _outcome(future, doing[future])
    finally:
        pool.shutdown(cancel_futures=True)
    for job in lost:
        with ProcessPoolExecutor(1, get_context("spawn"), _begin) as alone:
            yield _outcome(alone.submit(work, job), job)


def _outcome(future: Any, job: ComparisonJob) -> tuple[list[Row], list[str]]:
    try:
        done: tuple[list[Row], list[str]] = future.result()
        return done
    except Exception as error:  # the other jobs' hours must not be lost
        return [], [f"{job.checkpoint}, {job.domain.label}: {type(error).__name__}: {error}"]


def _begin() -> None:
    """A worker has one thread for its arithmetic, and ends with the process that began it, however that ended."""
    torch.set_num_threads(1)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Otherwise a worker waits for ever for a parent that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
