"""Put the shards of a run together: one records.json and records.csv, whoever ends last.

Journals are removed last of all. So a process whose own journal is gone knows that the records and the report of all shards are
there.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from monai_tta.core.record import Case
from monai_tta.pipeline.folder_locks import FOLDER_LOCK, hold
from monai_tta.pipeline.journal import Journal, is_over, path_hash
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.records import Records
from monai_tta.pipeline.run_log import Line, RunLog
from monai_tta.pipeline.run_starts import in_order, starts_in
from monai_tta.pipeline.shards import Shard

_LOOK_S = 1.0  # how often a process that waits looks whether the others are at their end
_WITHOUT_LOCKS_S = 60.0  # how long it waits for whoever ended last where the file system has no locks, which would say it


@dataclass
class RunState:
    """How far a whole run is, with all its shards.

    Args:
        finished: whether every image of every shard had its turn.
        on_record: how many images are on record.
        unfinished: the other shards that are not at their end.
        cases: the records of the images that other shards segmented, by number.
        clashes: images whose masks lie at one place, so that one replaced the other; they failed.
        starts: when the other shards were started.
    """

    finished: bool
    on_record: int = 0
    unfinished: list[Shard] = field(default_factory=list)
    cases: dict[int, Case] = field(default_factory=dict)
    clashes: dict[int, Outcome] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)


def write_records(log: RunLog, records: Records, *, ended: bool, then: Callable[[], None] | None = None) -> RunState:
    """Write the records of a run, with what the journals of its other shards say, and close its log where all are at their end.

    The content is the same whichever shard does it last. The records of a run that is over already stay as they are.

    Args:
        log: of this process.
        records: of this process's images.
        ended: whether all of these had their turn.
        then: what makes a finished run complete, e.g. its report. It is called before the log is closed, so a process that is
            killed meanwhile leaves a run that can be resumed.

    Raises:
        OSError: when the records cannot be written.
        UnfinishedRun: for the journal of another shard that is damaged, or of other settings.
    """
    if not ended and not log.journal.path.exists():
        return RunState(True)
    if log.shard.is_whole:
        return _put_together(log, records, RunState(ended), then)
    with hold(log.out / FOLDER_LOCK, wait=True):
        if ended:
            log.end()
        return _put_together(log, records, _add_other_shards(log, records, ended=ended), then)


def wait_for_others(
    log: RunLog, records: Records, then: Callable[[], None] | None, say_waits: Callable[[], None]
) -> RunState | None:
    """Wait until every shard is at its end and one of them has put all together. Where that one died over it, do it here.

    Args:
        log: of this process, which is at its end.
        records: of this process's images.
        then: as for `write_records`.
        say_waits: called once, if there is anything to wait for.

    Returns:
        how far the run is, where it was this process that put it together; None where another one did.

    Raises:
        OSError: when the records cannot be written.
        UnfinishedRun: for the journal of another shard that is damaged, or of other settings.
    """
    if not _all_ended(log):
        say_waits()
    while not _all_ended(log):
        time.sleep(_LOOK_S)
    with hold(log.out / FOLDER_LOCK, wait=True) as is_locked:
        until = time.monotonic() + _WITHOUT_LOCKS_S
        while not is_locked and log.journal.path.exists() and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if is_over(log.out):  # whoever put all together died while it removed the journals
            log.close()
        if not log.journal.path.exists():
            return None
        return _put_together(log, records, _add_other_shards(log, records, ended=True), then)


def _put_together(log: RunLog, records: Records, state: RunState, then: Callable[[], None] | None) -> RunState:
    """Write the records and what else belongs to a finished run, and only then close the log."""
    state.on_record = len(records.numbers())
    records.starts = in_order([*log.starts, *state.starts])
    records.write(finished=state.finished)
    if state.finished:
        if then is not None:
            then()
        log.close()
    return state


def _all_ended(log: RunLog) -> bool:
    """Whether every shard is at its end: each one's journal says so, or whoever ended last has removed them, or begun to."""
    have_ended = all(Journal(log.out, shard).has_ended() for shard in log.shard.all())
    return have_ended or is_over(log.out) or not log.journal.path.exists()


def _add_other_shards(log: RunLog, records: Records, *, ended: bool) -> RunState:
    """Put what the other shards did on record. Of an image that has no record yet, nothing is said.

    ``ended``: whether this shard is at its end.
    """
    state = RunState(False)
    places: dict[str, set[int]] = defaultdict(set)
    for number, masks in log.masks.items():
        for mask in masks:
            places[path_hash(mask.relative_to(log.out))].add(number)
    for shard in log.shard.all():
        if shard == log.shard:
            continue
        journal = Journal(log.out, shard)
        lines = journal.lines()
        if not journal.has_ended():
            state.unfinished.append(shard)
        if lines:
            log.check_settings(journal, lines[0])
        try:
            _add_lines(log, records, state, places, lines)
        except (ValueError, KeyError, TypeError) as error:
            raise journal.damaged() from error
    _fail_clashes(log, records, state, places)
    state.finished = ended and not state.unfinished and len(records.numbers()) == len(log.images)
    return state


def _add_lines(log: RunLog, records: Records, state: RunState, places: dict[str, set[int]], lines: list[Line]) -> None:
    """Put what one other shard did on record, by the lines of its journal.

    Raises:
        ValueError, KeyError or TypeError: for lines that are damaged.
    """
    number_of = log.number_of
    own = set(log.share)
    state.starts += starts_in(lines, log.settings)
    for line in lines[1:]:
        number = number_of.get(str(line.get("done", line.get("recorded"))), -1)
        if number < 0 or number in own:
            continue
        if "done" in line:
            state.cases[number] = replace(Case.from_json(json.dumps(line["case"])), number=number)
            for name in line["masks"]:
                places[name].add(number)
        else:
            records.put(number, line["entry"])


def _fail_clashes(log: RunLog, records: Records, state: RunState, places: dict[str, set[int]]) -> None:
    """Masks of two images at one place: nobody knows any more whose the file is."""
    for numbers in places.values():
        for number in numbers if len(numbers) > 1 else ():
            others = ", ".join(map(str, sorted(numbers - {number})))
            error = f"its mask lies where that of number {others} does; give images of one name folders of their own"
            state.clashes[number] = Outcome(log.images[number], error=error, number=number, name=log.names[number])
            state.cases.pop(number, None)
            records.add(state.clashes[number])
