"""The run of `monai-tta run`: each image of this process's share gets its outcome, and the records say what became of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from monai_tta.cli.case_options import say_skipped
from monai_tta.cli.check import checked_inputs, say_unusual
from monai_tta.cli.console import report_errors, say
from monai_tta.cli.progress import show_progress
from monai_tta.cli.recorded_run import read_records
from monai_tta.cli.report_file import PAGE, write_report
from monai_tta.cli.run_facts import RunRequest
from monai_tta.cli.run_report import (
    describe_outcome,
    keep_what_is_done,
    report_interrupt,
    report_outcomes,
    report_shards,
    report_triage,
)
from monai_tta.cli.run_source import RunSource, load_to_run, load_worker_source, run_source

if TYPE_CHECKING:
    from monai_tta.pipeline.check_input import CheckedInput
    from monai_tta.pipeline.find_images import FoundImages
    from monai_tta.pipeline.outcome import Outcome
    from monai_tta.pipeline.records import Records
    from monai_tta.pipeline.run_log import RunLog
    from monai_tta.pipeline.shard_records import RunState


def run_cases(request: RunRequest, given: list[Path]) -> int:
    """Segment the images of a run, or this process's share of them.

    Args:
        request: what was asked for.
        given: the images, as files and folders.

    Returns:
        the exit code, which is about the images of this process alone: 0; 3 when one failed; 130 after Ctrl-C.

    Raises:
        typer.Exit: with code 2, after a line that says what is wrong.
    """
    log: RunLog | None = None
    records: Records | None = None
    outcomes: list[Outcome] = []
    try:
        with report_errors():
            from monai_tta.pipeline.image_names import named_images
            from monai_tta.pipeline.output_folder import check_output_folder
            from monai_tta.pipeline.records import Records
            from monai_tta.pipeline.run_log import RunLog
            from monai_tta.pipeline.shard_records import write_records

            loaded = load_to_run(request)
            found = named_images(request.images, request.out)
            check_output_folder(request.out, [*given, *found.images])
            run = run_source(request, loaded)
            log = RunLog(request.out, found.images, run.settings, names=found.names, restart=request.restart, shard=request.shard)
            records = Records(request.out, run.facts, len(found.images))
            take_turns(request, run, log, records, outcomes)
            then = partial(_write_page, request) if request.report else None
            state = write_records(log, records, ended=True, then=then)
            code = _report(request, run, log, state, outcomes, found)
            if code and not log.shard.is_whole and "TORCHELASTIC_RUN_ID" in os.environ:
                _wait_for_others(log, records, then)
            return code
    except KeyboardInterrupt:
        report_interrupt(log, records, outcomes)
        return 130
    except typer.Exit:
        keep_what_is_done(log, records, outcomes)
        raise


def take_turns(request: RunRequest, run: RunSource, log: RunLog, records: Records, outcomes: list[Outcome]) -> None:
    """Segment the images one by one, or several at a time; each outcome joins ``outcomes`` and the records as it comes."""
    from monai_tta.core.record import reasons_on_record_alone
    from monai_tta.pipeline.named_warnings import warnings_with_names

    doing = "segmenting" if log.shard.is_whole else f"segmenting (shard {log.shard})"
    with (
        closing(_outcomes(request, run, log)) as todo,
        reasons_on_record_alone(),
        warnings_with_names(say),
        show_progress(doing, len(log.share), "images") as progress,
    ):
        for outcome in todo:
            outcomes.append(outcome)
            log.put_on_record(outcome.number, records.add(outcome))
            progress.advance(describe_outcome(outcome), counts=not outcome.earlier_run)


def _outcomes(request: RunRequest, run: RunSource, log: RunLog) -> Generator[Outcome, None, None]:
    from monai_tta.pipeline.case_file import label_of
    from monai_tta.pipeline.segment import segment
    from monai_tta.pipeline.segment_workers import segment_in_workers

    source = run.source
    if request.workers > 1:

        def note_check(number: int, found: CheckedInput) -> None:
            say_unusual(label_of(found.image, log.names[number]), found, request.checks.fix)

        load = partial(load_worker_source, request)
        return segment_in_workers(source, load, log, request.workers, tell=say, note_check=note_check)
    share = [log.images[number] for number in log.share]
    checked = checked_inputs(source.bundle, source.checks, share, [log.names[number] for number in log.share])
    return segment(
        source.bundle,
        log.images,
        log.out,
        source.method,
        names=log.names,
        run_log=log,
        checked=checked,
        preview=source.preview,
        mask_format=source.mask_format,
        **source.options,
    )


def _report(
    request: RunRequest, run: RunSource, log: RunLog, state: RunState, outcomes: list[Outcome], found: FoundImages
) -> int:
    """Say how the run went; the exit code."""
    outcomes = [state.clashes.get(outcome.number, outcome) for outcome in outcomes]
    code = report_outcomes(outcomes, log, run.facts.names, with_previews=request.preview)
    report_shards(log, state)
    report_triage(outcomes, log, state, run.predictor, request.quality.accept)
    say_skipped(found)
    return code


def _write_page(request: RunRequest) -> None:
    """Write the report of a finished run."""
    write_report(read_records(request.out), request.out / PAGE, request.quality.accept)


def _wait_for_others(log: RunLog, records: Records, then: Callable[[], None] | None) -> None:
    """torchrun ends all processes as soon as one ends with another code than 0, also one that is still putting all together."""
    from monai_tta.pipeline.shard_records import wait_for_others

    state = wait_for_others(
        log, records, then, lambda: say("waiting for the other processes: torchrun would end them with this one")
    )
    if state is not None:
        report_shards(log, state)
