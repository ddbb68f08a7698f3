"""Runs jobs in several processes, and goes on when one of them fails or its process dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

import torch

from monai_tta.pipeline.describe_error import describe_error

J = TypeVar("J")
T = TypeVar("T")


def in_processes(
    do: Callable[[J], tuple[list[T], list[str]]], jobs: Sequence[J], workers: int
) -> Iterator[tuple[list[T], list[str]]]:
    """Do every job in a pool of processes with one thread each.

    A job whose process died, most often for lack of memory, is tried once more in a process of its own.

    Args:
        do: returns a job's results and a line for each failure. What it raises is such a line, too.
        jobs: that can be pickled; ``str`` of one names it in a failure.
        workers: how many processes, at least 1.

    Yields:
        what each job returned, as soon as it is done.
    """
    lost = []
    pool = ProcessPoolExecutor(max(1, min(workers, len(jobs))), get_context("spawn"), _start)
    try:
        running = {pool.submit(do, job): job for job in jobs}
        for future in as_completed(running):
            if isinstance(future.exception(), BrokenProcessPool):
                lost.append(running[future])
            else:
                yield _outcome(future, running[future])
    finally:
        pool.shutdown(cancel_futures=True)
    for job in lost:
        with ProcessPoolExecutor(1, get_context("spawn"), _start) as alone:
            yield _outcome(alone.submit(do, job), job)


def _outcome(future: Future[tuple[list[T], list[str]]], job: object) -> tuple[list[T], list[str]]:
    try:
        return future.result()
    except Exception as error:  # must not cost hours of the other jobs
        return [], [f"{job}: {describe_error(error)}"]


def _start() -> None:
    """A worker has one thread for its arithmetic, and ends when the process that started it ends, however that ended."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, a worker waits for ever for a parent that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
