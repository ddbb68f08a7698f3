"""Processes that draw jobs from one queue. One that dies, most often for lack of memory, costs its own job only."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import torch

J = TypeVar("J")
T = TypeVar("T")

_READY, _DONE, _RAISED = "ready", "done", "raised"
_END_S = 10.0  # how long an idle worker may take to end by itself


class WorkersFailed(RuntimeError):
    """No process of a pool can do a job: each ended, or raised, before its first one."""


@dataclass(frozen=True)
class Finished(Generic[J, T]):
    """What became of a job.

    Args:
        job: the job.
        result: what was returned; None where the process died.
        died: how the process ended that worked on it, twice; None where it did not.
    """

    job: J
    result: T | None = None
    died: str | None = None


class WorkerPool(Generic[J, T]):
    """Spawned processes that do jobs. Close it, or use it in a ``with`` block; both end the processes.

    Args:
        make: called once in each process, with nothing; returns what does a job. Picklable, as are jobs and results.
        workers: the largest number of processes, at least 1.
        threads: of the arithmetic of each process.
    """

    def __init__(self, make: Callable[[], Callable[[J], T]], workers: int, threads: int = 1) -> None:
        self._make = make
        self._width = max(1, workers)
        self._threads = max(1, threads)
        self._workers: list[_Worker] = []

    def each(self, jobs: Iterable[J], begin: Callable[[J], None] = lambda job: None) -> Iterator[Finished[J, T]]:
        """Do jobs, each in the first process that is free, and yield them as they are finished.

        A job whose process died is done once more after all others, by one process alone. A process gets its next job when the
        caller asks for the next finished one.

        Args:
            jobs: in the order in which they are begun.
            begin: called when a process gets a job.

        Raises:
            WorkersFailed: when no process comes so far as to begin.
        """
        lost: list[tuple[J, str]] = []
        yield from self._rounds(deque(jobs), self._width, begin, lost)
        if lost:
            self._end(self._workers[1:])
        for job, _ in list(lost):
            again: list[tuple[J, str]] = []
            yield from self._rounds(deque([job]), 1, begin, again)
            for _, how in again:
                yield Finished(job, died=how)

    def close(self) -> None:
        """End all processes, also those at work."""
        self._end(self._workers)

    def __enter__(self) -> WorkerPool[J, T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _rounds(
        self, waiting: deque[J], width: int, begin: Callable[[J], None], lost: list[tuple[J, str]]
    ) -> Iterator[Finished[J, T]]:
        while waiting or any(worker.job for worker in self._workers):
            for worker in [one for one in self._workers if one.is_ready and not one.job]:
                if waiting and self._hand(worker, waiting[0]):
                    begin(waiting.popleft())
            while len(self._workers) < min(width, self._width, sum(bool(one.job) for one in self._workers) + len(waiting)):
                self._workers.append(_Worker(self._make, self._threads))
            for worker in self._next_messages():
                finished = self._hear(worker, lost)
                if finished is not None:
                    yield finished
            if not self._workers and waiting and not self._width:
                raise WorkersFailed("every worker process ended before its first job, most often for lack of memory")

    def _hand(self, worker: _Worker, job: J) -> bool:
        """Give a worker a job; False where it has died while it was idle."""
        try:
            worker.pipe.send(job)
        except OSError:
            self._end([worker])
            return False
        worker.job = (job,)
        return True

    def _next_messages(self) -> list[_Worker]:
        pipes = {worker.pipe: worker for worker in self._workers if worker.job or not worker.is_ready}
        return [pipes[pipe] for pipe in wait(list(pipes)) if isinstance(pipe, Connection)] if pipes else []

    def _hear(self, worker: _Worker, lost: list[tuple[J, str]]) -> Finished[J, T] | None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker, lost)
            return None
        if kind == _RAISED:
            raise WorkersFailed(content)
        if kind == _READY:
            worker.is_ready = True
            return None
        (job,) = worker.job
        worker.job = ()
        return Finished(job, content)

    def _bury(self, worker: _Worker, lost: list[tuple[J, str]]) -> None:
        """Take a dead worker out. One that never was ready is not replaced: fewer fit into the memory."""
        self._end([worker])
        if worker.job:
            lost.append((worker.job[0], worker.ending()))
        elif not worker.is_ready:
            self._width -= 1

    def _end(self, workers: list[_Worker]) -> None:
        workers = list(workers)
        self._workers = [one for one in self._workers if one not in workers]
        for worker in workers:
            worker.end()


class _Worker:
    """A process, and this end of the pipe to it. ``job`` holds the one that it works on, or nothing."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], threads: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(make, theirs, threads), daemon=True)
        self.job: tuple[Any, ...] = ()
        self.is_ready = False
        with _without_interrupts():
            self.process.start()
        theirs.close()

    def ending(self) -> str:
        """How the process ended, in words."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def end(self) -> None:
        """End the process: in order where it is idle, else at once."""
        if self.is_ready and not self.job:
            with suppress(OSError):
                self.pipe.send(_END)
            self.process.join(_END_S)
        elif self.job:
            self.process.join(0.1)  # one that is ending by itself keeps its own exit code
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


_END = "monai_tta: no more jobs"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal. One that is started here never hears of it: its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(make: Callable[[], Callable[[Any], Any]], pipe: Connection, threads: int) -> None:
    """What a process does: jobs, one by one, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        do = make()
        pipe.send((_READY, None))
        while (job := pipe.recv()) != _END:
            pipe.send((_DONE, do(job)))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        with suppress(OSError):
            pipe.send((_RAISED, "".join(traceback.format_exception_only(error)).strip()))


def _end_with_parent() -> None:
    """Without this, a worker would finish its job for a parent that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
