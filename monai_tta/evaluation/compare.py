"""Runs a comparison: contenders on the labelled cases of domains, a row per answer. Labels never reach an adapter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from monai_tta.evaluation.answer_cases import Answer, labelled_domain, use_answers
from monai_tta.evaluation.example_pictures import draw, keep_only_examples, picture_jobs
from monai_tta.evaluation.job_pool import in_processes
from monai_tta.evaluation.jobs import ComparisonJob, jobs_of
from monai_tta.evaluation.labelled_data import labelled_cases
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.scoring import scores_of
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.reporting.render import PICTURES
from monai_tta.reporting.rows import Row, RowFile


def work(job: ComparisonJob) -> tuple[list[Row], list[str]]:
    """Do a job.

    Returns:
        its rows, and a line for each case that failed; the other cases are done.

    Raises:
        BundleError: when the bundle or the domain cannot be read at all.
    """
    return use_answers(job, partial(_row, job))


def _row(job: ComparisonJob, answer: Answer) -> Row:
    """Score an answer."""
    domain = labelled_domain(job)
    shift = job.domain.shift and job.domain.shift.rsplit(".", 1)[-1]
    return Row(
        key=job.key(answer.contender, answer.number),
        scores=scores_of(answer.data, job.plan.metrics, domain.protocol.tolerance),
        shift=shift,
        severity=job.domain.severity if shift else None,
        group=domain.groups[answer.number],
        seconds=answer.case.seconds,
        memory=answer.memory,
        answer=answer.digest,
        reason=answer.case.reason,
        signals=answer.signals,
        forwards=None if answer.passes is None else answer.passes.forwards,
        backwards=None if answer.passes is None else answer.passes.backwards,
    )


def compare(plan: ComparisonPlan, out: Path, workers: int | None = None) -> Iterator[tuple[int, int, list[str]]]:
    """Do what is not done yet, in parallel over cases. Keep the rows of each job in ``out/rows.sqlite`` as soon as it is done.

    The same call again resumes where the last one stopped. A run that is killed loses only the jobs that were running. With
    ``plan.pictures``, the example cases are answered once more at the end, and drawn into ``out/pictures``.

    Args:
        plan: what to compare.
        out: the folder.
        workers: processes, of one thread each; one per core by default.

    Yields:
        how many jobs are done, of how many, and what failed in the last one.

    Raises:
        RowsError: when the rows in the folder were made with other settings.
    """
    workers = workers or os.cpu_count() or 1
    out.mkdir(parents=True, exist_ok=True)
    file = RowFile(out / "rows.sqlite")
    try:
        file.settle(plan.settings())
        sizes: dict[str, int] = {}
        for domain in plan.places():
            try:
                cases = labelled_cases(plan.root, plan.dataset_dir, domain, plan.changes)
            except Exception as error:  # the data of the other domains may be there
                yield 0, 0, [f"{domain.label}: {describe_error(error)}"]
                continue
            file.settle({"domains": {domain.label: [len(cases), cases.digest]}, "image_lists": {domain.label: cases.images}})
            sizes[domain.label] = len(cases)
        jobs = list(jobs_of(plan, file.done(), sizes))
        if jobs:
            file.settle({"runs": {datetime.now().astimezone().isoformat(timespec="milliseconds"): plan.command()}})
        for number, (rows, failures) in enumerate(in_processes(work, jobs, workers), 1):
            file.add(rows)
            yield number, len(jobs), failures
        if plan.pictures:
            yield from _draw_examples(plan, file.rows(), sizes, out / PICTURES, workers, len(jobs))
    finally:
        file.close()


def _draw_examples(
    plan: ComparisonPlan, rows: list[Row], sizes: dict[str, int], folder: Path, workers: int, done: int
) -> Iterator[tuple[int, int, list[str]]]:
    """Draw the pictures that are missing, and delete those of cases that are no longer examples."""
    folder.mkdir(exist_ok=True)
    keep_only_examples(rows, folder)
    jobs = picture_jobs(plan, rows, sizes, folder)
    for number, (pictures, failures) in enumerate(in_processes(draw, jobs, workers), 1):
        for name, png in pictures:
            partial_file = folder / f"{name}.partial"
            partial_file.write_bytes(png)
            partial_file.replace(folder / name)
        yield done + number, done + len(jobs), failures
