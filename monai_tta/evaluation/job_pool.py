"""Runs jobs in several processes, and goes on when one of them fails or its process dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from monai_tta.compute.worker_pool import WorkerPool
from monai_tta.pipeline.describe_error import describe_error

J = TypeVar("J")
T = TypeVar("T")


def in_processes(
    do: Callable[[J], tuple[list[T], list[str]]], jobs: Sequence[J], workers: int
) -> Iterator[tuple[list[T], list[str]]]:
    """Do every job in a pool of processes with one thread each.

    A job whose process died, most often for lack of memory, is tried once more when all others are done.

    Args:
        do: returns a job's results and a line for each failure. What it raises is such a line, too.
        jobs: that can be pickled; ``str`` of one names it in a failure.
        workers: how many processes, at least 1.

    Yields:
        what each job returned, as soon as it is done.
    """
    with WorkerPool[J, tuple[list[T], list[str]]](_Carefully(do), workers) as pool:
        for finished in pool.each(jobs):
            if finished.result is None:
                yield [], [f"{finished.job}: its process ended abruptly ({finished.died}), most often for lack of memory"]
            else:
                yield finished.result


@dataclass(frozen=True)
class _Carefully(Generic[J, T]):
    """Does a job; an error must not cost hours of the other jobs."""

    do: Callable[[J], tuple[list[T], list[str]]]

    def __call__(self) -> Callable[[J], tuple[list[T], list[str]]]:
        return self._try

    def _try(self, job: J) -> tuple[list[T], list[str]]:
        try:
            return self.do(job)
        except Exception as error:
            return [], [f"{job}: {describe_error(error)}"]
