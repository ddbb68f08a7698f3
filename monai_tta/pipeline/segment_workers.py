"""Segment images in several processes, which draw them from one queue; the process that started them keeps the run log."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from monai_tta.compute.worker_pool import WorkerPool
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import reasons_on_record_alone
from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.check_input import CheckedInput, try_to_check
from monai_tta.pipeline.image_segmenter import ImageSegmenter, Segmented
from monai_tta.pipeline.input_view import InputView
from monai_tta.pipeline.named_warnings import warnings_with_names
from monai_tta.pipeline.outcome import Outcome, Publisher, earlier_outcome
from monai_tta.pipeline.output_folder import clear, partial_folder
from monai_tta.pipeline.preview import PreviewText
from monai_tta.pipeline.run_log import RunLog
from monai_tta.quality.input_reference import InputReference


@dataclass(frozen=True)
class InputChecks:
    """How the inputs of a run are checked.

    Args:
        reference: of the source's inputs.
        fix: whether they are corrected.
    """

    reference: InputReference
    fix: bool


@dataclass(frozen=True)
class WorkerSource:
    """What images are segmented with, made in each process of its own.

    Args:
        bundle: the network and its transforms.
        method: how to adapt.
        options: keyword arguments of `AdaptiveInferer`.
        checks: how inputs are checked; None where they are not.
        preview: what is written on previews; None for no previews.
        mask_format: in which masks are written, see `check_format`; None for what the bundle writes.
    """

    bundle: SourceBundle
    method: AdaptationMethod
    options: Mapping[str, Any]
    checks: InputChecks | None = None
    preview: PreviewText | None = None
    mask_format: str | None = None


def segment_in_workers(
    source: WorkerSource,
    load_source: Callable[[], WorkerSource],
    run_log: RunLog,
    workers: int,
    *,
    tell: Callable[[str], None],
    note_check: Callable[[int, CheckedInput], None],
) -> Generator[Outcome, None, None]:
    """Segment the images of a run log in several processes. The masks are those that one process with as many threads writes.

    The threads of this process's arithmetic are divided among the workers. A worker that dies, most often for lack of memory,
    costs its own image only, which is tried once more after all others, by one process alone. Inputs are checked when their turn
    comes.

    Args:
        source: what images are segmented with.
        load_source: makes the same in another process; picklable.
        run_log: of the images.
        workers: how many processes.
        tell: what is done with warnings, one line each.
        note_check: what is done with what the check of an image's input found, by the image's number.

    Raises:
        DiskFull: when the disk is full or read-only, which no further image could change.
        UnfinishedRun: when ``out`` holds an unfinished run that this one cannot resume.
        WorkersFailed: when no process comes so far as to begin.
    """
    with partial_folder(run_log.out, run_log.shard) as folder:
        work = _Work(load_source, folder, tuple(run_log.images), tuple(run_log.names), run_log.on_disk)
        work.segmenter(source, folder)  # what is wrong with the options is said here, as in a run of one process
        run_log.open()
        publisher = Publisher(run_log)
        for number in sorted(run_log.of_earlier_run):
            yield earlier_outcome(run_log, number)
        order = run_log.order()
        with WorkerPool[int, _Answered](work, min(workers, len(order)), torch.get_num_threads() // workers) as pool:
            for finished in pool.each(order, run_log.begin):
                answered = finished.result or _Answered(_lost(finished.died))
                for line in answered.said:
                    tell(line)
                if answered.checked is not None:
                    note_check(finished.job, answered.checked)
                yield publisher.finish(finished.job, answered.segmented, answered.folder)


@dataclass(frozen=True)
class _Answered:
    """What a worker sends of an image: what came of it, the folder of its masks, its input's check, and warnings."""

    segmented: Segmented
    folder: Path | None = None
    checked: CheckedInput | None = None
    said: tuple[str, ...] = ()


def _lost(how: str | None) -> Segmented:
    return Segmented(error=f"the process that worked on it ended abruptly, twice ({how}), most often for lack of memory")


@dataclass(frozen=True)
class _Work:
    """Makes, in a process, what segments one image there. Picklable."""

    load_source: Callable[[], WorkerSource]
    folder: Path
    images: tuple[Path, ...]
    names: tuple[str, ...]
    with_content: bool

    def __call__(self) -> Callable[[int], _Answered]:
        return _ImageWorker(self)

    def segmenter(self, source: WorkerSource, folder: Path) -> ImageSegmenter:
        """What segments images and writes their masks into a folder."""
        return ImageSegmenter(
            source.bundle,
            source.method,
            folder,
            self.images,
            self.names,
            with_content=self.with_content,
            corrects=source.checks is not None and source.checks.fix,
            preview=source.preview,
            options=source.options,
            mask_format=source.mask_format,
        )


class _ImageWorker:
    """Segments one image after the other in a process of its own, for as long as that lives."""

    def __init__(self, work: _Work) -> None:
        self._said: list[str] = []
        self._open = ExitStack()  # is never closed: the process ends
        self._open.enter_context(warnings_with_names(self._said.append))
        self._open.enter_context(reasons_on_record_alone())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the process that started this one has loaded the same, and has said it
            self._source = work.load_source()
        self._folder = Path(tempfile.mkdtemp(dir=work.folder))
        self._segmenter = work.segmenter(self._source, self._folder)
        self._images = work.images
        self._view: InputView | None = None
        if self._source.checks is not None:
            self._view = self._open.enter_context(InputView(self._source.bundle))

    def __call__(self, number: int) -> _Answered:
        self._said.clear()
        clear(self._folder)
        checked = self._check(number)
        load = partial(self._segmenter.load, number, None if checked is None else checked.correction)
        segmented = self._segmenter.segment(number, load, checked)
        return _Answered(segmented, self._folder, checked, tuple(self._said))

    def _check(self, number: int) -> CheckedInput | None:
        checks = self._source.checks
        if checks is None or self._view is None:
            return None
        return try_to_check(self._view, checks.reference, self._images[number], checks.fix)
