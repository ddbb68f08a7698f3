"""What `monai-tta run` says of its images: each message once, with the image's name."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from monai_tta.cli.console import print_line, print_table, say
from monai_tta.pipeline.journal import UnfinishedRun
from monai_tta.pipeline.quality_words import quality_in_words
from monai_tta.reporting.masks_to_use import is_unusual
from monai_tta.reporting.number_format import number_of, wanted_dice

if TYPE_CHECKING:
    from monai_tta.pipeline.mask_labels import LabelNames
    from monai_tta.pipeline.outcome import Outcome
    from monai_tta.pipeline.records import Records
    from monai_tta.pipeline.run_log import RunLog
    from monai_tta.pipeline.shard_records import RunState
    from monai_tta.quality.quality_predictor import QualityPredictor

NOT_RELIABLE = "not to be relied on, because its input is unusual: "


def describe_outcome(outcome: Outcome) -> str:
    """One image's outcome in a few words. What its mask is worth is said at the end, once."""
    if outcome.earlier_run:
        return f"{outcome.label} was done before"
    if outcome.case is None:
        return f"{outcome.label} failed"
    how = "adapted" if outcome.case.adapted else "unadapted"
    return f"{outcome.label} {how}, {outcome.case.seconds:.1f} s"


def report_outcomes(outcomes: list[Outcome], log: RunLog, names: LabelNames | None = None, with_previews: bool = False) -> int:
    """Say how it went; 3 when an image of this process failed, or a map or a preview that was asked for is missing, else 0."""
    report_reasons(outcomes)
    report_quality(outcomes, names)
    without_map = report_missing_maps(outcomes)
    without_preview = [outcome for outcome in outcomes if with_previews and outcome.case and outcome.beside.preview is None]
    if without_preview:
        have = "has" if len(without_preview) == 1 else "have"
        say(f"{number_of(len(without_preview), 'masks')} {have} no preview, see above", "red")
    failed = [outcome for outcome in outcomes if outcome.error]
    earlier = sum(outcome.earlier_run for outcome in outcomes)
    before = f" ({earlier} of them before this run was stopped)" if earlier else ""
    where = f"masks and records.json in {log.out}"
    say(f"{_shard(log)}{len(outcomes) - len(failed)} of {len(outcomes)} segmented{before}; {where}")
    report_failures(outcomes)
    return 3 if failed or without_map or without_preview or not log.images else 0


def report_shards(log: RunLog, state: RunState) -> None:
    """Say how far the whole run is, of which this process did a shard."""
    if log.shard.is_whole:
        return
    if state.finished:
        say(f"all {log.shard.count} shards are at their end; records.json holds all {len(log.images)} images")
        return
    left = ", ".join(map(str, state.unfinished[:8])) + (" ..." if len(state.unfinished) > 8 else "")
    waits = f"shards not at their end: {left}" if left else "images were added since a shard began: run every shard again"
    say(f"records.json holds {state.on_record} of {len(log.images)} images; {waits}")


def report_reasons(outcomes: list[Outcome]) -> None:
    """Say how images were read, and which answers are unadapted and why, once each, with the file's name.

    Where the method adapts nothing, unadapted answers are what was asked for and no news.
    """
    from monai_tta.core.record import NOTHING_ADAPTS

    for outcome in outcomes:
        for note in outcome.notes:
            say(f"{outcome.label}: {note}")
        if outcome.case and outcome.case.reason and not outcome.case.reason.endswith(NOTHING_ADAPTS):
            say(f"{outcome.label}: unadapted answer: {outcome.case.reason}")
        if outcome.case and outcome.case.restarted:
            say(f"{outcome.label}: the stream was restarted: {outcome.case.restarted}")


def report_quality(outcomes: list[Outcome], names: LabelNames | None) -> None:
    """Say what each mask is expected to be worth, where a quality predictor says so, or why it could not."""
    for outcome in outcomes:
        if outcome.case and (words := quality_in_words(outcome.case, names)):
            doubt = NOT_RELIABLE if outcome.case.quality is not None and is_unusual(outcome.case.input_check) else ""
            say(f"{outcome.label}: {doubt}{words}", "yellow" if doubt else None)


def report_missing_maps(outcomes: list[Outcome]) -> int:
    """Say which masks have no map of their uncertainty although one was asked for, and why; how many these are."""
    found = [(outcome.label, outcome.case.uncertainty_note) for outcome in outcomes if outcome.case]
    missing = [(label, why) for label, why in found if why is not None]
    for label, why in missing:
        say(f"{label}: no map of its uncertainty: {why}", "red")
    return len(missing)


def report_triage(
    outcomes: list[Outcome], log: RunLog, state: RunState, predictor: QualityPredictor | None, accept: float | None
) -> None:
    """Say which masks can be used, which to look at and which not to use, where the user named the Dice that they must have.

    The last one of several shards says it of all.
    """
    if predictor is None or accept is None:
        return
    from monai_tta.pipeline.case_file import label_of
    from monai_tta.pipeline.triage import triage, words_on_accepted

    cases = [(outcome.label, outcome.case) for outcome in outcomes if outcome.case]
    if state.finished:
        cases += [(label_of(log.images[number], log.names[number]), case) for number, case in sorted(state.cases.items())]
    found = triage(cases, predictor, accept)
    print_table(
        ["mask of", f"Dice of {wanted_dice(accept)} or more", "worst structure: expected Dice"], [one.row() for one in found]
    )
    print_line(words_on_accepted(found, accept))


def report_failures(outcomes: list[Outcome]) -> None:
    """Say which images failed and why, once each, with the file's name."""
    for outcome in outcomes:
        if outcome.error:
            say(f"failed: {outcome.label}: {outcome.error}", "red")


def report_interrupt(log: RunLog | None, records: Records | None, outcomes: list[Outcome]) -> None:
    """Ctrl-C: what is finished stays."""
    keep_what_is_done(log, records, outcomes)
    if log is None or not log.cases:
        say(f"{'' if log is None else _shard(log)}interrupted; nothing was finished")
        return
    done = f"{len(log.cases)} of {len(log.share)} segmented"
    say(f"{_shard(log)}interrupted; {done}, with records.json, in {log.out}; the same command resumes")


def keep_what_is_done(log: RunLog | None, records: Records | None, outcomes: list[Outcome]) -> None:
    """Write and say what became of the images of a run that was stopped, as far as it came.

    Args:
        log: of the run; it may know of an image more than the outcomes do.
        records: of the run.
        outcomes: of the images, as they came.
    """
    if log is not None and records is not None:
        from monai_tta.pipeline.outcome import earlier_outcome  # it imports torch, and a run that got so far has done so, too
        from monai_tta.pipeline.shard_records import write_records

        for number in sorted(set(log.cases) - records.numbers()):
            outcomes.append(earlier_outcome(log, number))
            records.add(outcomes[-1])
        if records.numbers():
            with suppress(OSError, UnfinishedRun):  # it is said why the run ended
                write_records(log, records, ended=False)
    report_reasons(outcomes)
    report_failures(outcomes)


def _shard(log: RunLog) -> str:
    """Which of several shards says something."""
    return "" if log.shard.is_whole else f"shard {log.shard}: "
