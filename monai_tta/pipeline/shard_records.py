"""Put the shards of a run together: one records.json and records.csv, whoever ends last."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from monai_tta.core.record import Case
from monai_tta.pipeline.folder_locks import FOLDER_LOCK, hold
from monai_tta.pipeline.journal import Journal
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.records import Records
from monai_tta.pipeline.run_log import RunLog, path_hash
from monai_tta.pipeline.shards import Shard


@dataclass
class RunState:
    """How far a whole run is, with all its shards.

    Args:
        finished: whether every image of every shard had its turn.
        on_record: how many images are on record.
        unfinished: the other shards that are not at their end.
        cases: the records of the images that other shards segmented, by number.
        clashes: images whose masks lie at one place, so that one replaced the other; they failed.
    """

    finished: bool
    on_record: int = 0
    unfinished: list[Shard] = field(default_factory=list)
    cases: dict[int, Case] = field(default_factory=dict)
    clashes: dict[int, Outcome] = field(default_factory=dict)


def write_records(log: RunLog, records: Records, *, ended: bool) -> RunState:
    """Write the records of a run, with what the journals of its other shards say, and close its log where all are at their end.

    The content is the same whichever shard does it last.

    Args:
        log: of this process.
        records: of this process's images.
        ended: whether all of these had their turn.

    Raises:
        OSError: when the records cannot be written.
        UnfinishedRun: for the journal of another shard that is damaged, or of other settings.
    """
    if log.shard.is_whole:
        records.write(finished=ended)
        if ended:
            log.close()
        return RunState(ended, len(records.numbers()))
    with hold(log.out / FOLDER_LOCK, wait=True):
        if ended:
            log.end()
        state = _add_other_shards(log, records)
        state.on_record = len(records.numbers())
        state.finished = ended and not state.unfinished and state.on_record == len(log.images)
        records.write(finished=state.finished)
        if state.finished:
            log.close()
    return state


def all_ended(log: RunLog) -> bool:
    """Whether every shard is at its end: each one's journal says so, or whoever ended last has removed them."""
    there = [Journal(log.out, shard) for shard in log.shard.all()]
    return not log.journal.path.exists() or all(_ended(journal.lines()) for journal in there)


def _ended(lines: list[dict[str, Any]]) -> bool:
    return any("ended" in line for line in lines)


def _add_other_shards(log: RunLog, records: Records) -> RunState:
    """Put what the other shards did on record. Of an image that has no record yet, nothing is said."""
    state = RunState(False)
    number_of = log.number_of
    own = set(log.share)
    places: dict[str, set[int]] = defaultdict(set)
    for number, masks in log.masks.items():
        for mask in masks:
            places[path_hash(mask.relative_to(log.out))].add(number)
    for shard in log.shard.all():
        if shard == log.shard:
            continue
        journal = Journal(log.out, shard)
        lines = journal.lines()
        if not _ended(lines):
            state.unfinished.append(shard)
        if lines:
            log.check_settings(journal, lines[0])
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
    _fail_clashes(log, records, state, places)
    return state


def _fail_clashes(log: RunLog, records: Records, state: RunState, places: dict[str, set[int]]) -> None:
    """Masks of two images at one place: nobody knows any more whose the file is."""
    for numbers in places.values():
        for number in numbers if len(numbers) > 1 else ():
            others = ", ".join(map(str, sorted(numbers - {number})))
            error = f"its mask lies where that of number {others} does; give images of one name folders of their own"
            state.clashes[number] = Outcome(log.images[number], error=error, number=number, name=log.names[number])
            state.cases.pop(number, None)
            records.add(state.clashes[number])
