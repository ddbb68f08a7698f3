"""What an unfinished run has done so far, so that the same command resumes it.

A hidden file of the output folder has one line of JSON per event. Images and masks are in it as hashes, never by name or path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_tta.core.record import Case
from monai_tta.pipeline.beside_masks import BesideMasks
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.folder_locks import FOLDER_LOCK, hold
from monai_tta.pipeline.image_names import numbered
from monai_tta.pipeline.journal import (
    ENDED,
    Journal,
    UnfinishedRun,
    how_to_start_again,
    journals,
    path_hash,
    remove_journals,
    to_resume,
)
from monai_tta.pipeline.journal import NAME as NAME  # what everything else calls it
from monai_tta.pipeline.run_starts import local_time, note_of_starts, starts_in
from monai_tta.pipeline.shards import WHOLE, Shard

Line = dict[str, Any]


class RunLog:
    """What was done of a run's images, kept in a file of ``out`` for as long as the run is unfinished.

    Args:
        out: the folder for masks.
        images: all images of the run, in the order in which they are segmented.
        settings: everything that a mask depends on besides its image.
        names: of the images, unique; None for their files' names.
        restart: whether to forget an unfinished run instead of resuming it.
        on_disk: whether there is a file; otherwise nothing outlives this process.
        shard: the share of the images that this process segments.

    Attributes:
        share: numbers of the images that this process segments.
        cases: the record of each finished image of the share, by the image's number.
        masks: the mask files of each finished image.
        beside: what else lies beside the masks of each finished image.
        notes: what a person should know of how each finished image was read.
        begun: numbers of the images that were worked on, finished or not.
        of_earlier_run: numbers of the images that an earlier run finished.
        starts: when this process started, and those whose work it resumes, as `local_time` writes it.
    """

    def __init__(
        self,
        out: Path,
        images: Iterable[Path],
        settings: dict[str, Any],
        *,
        names: Sequence[str] | None = None,
        restart: bool = False,
        on_disk: bool = True,
        shard: Shard = WHOLE,
    ) -> None:
        self.out = out
        self.journal = Journal(out, shard)
        self.shard = shard
        self.images = list(images)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.restart = restart
        self.on_disk = on_disk
        self.cases: dict[int, Case] = {}
        self.masks: dict[int, tuple[Path, ...]] = {}
        self.beside: dict[int, BesideMasks] = {}
        self.notes: dict[int, tuple[str, ...]] = {}
        self.begun: set[int] = set()
        self.of_earlier_run: frozenset[int] = frozenset()
        self.starts = [local_time()]
        self.names = numbered([image.name for image in self.images] if names is None else names)
        self.share = [number for number, name in enumerate(self.names) if shard.holds(name)]
        self._ids = [path_hash(name) for name in self.names]
        self._entries: dict[int, dict[str, Any]] = {}

    @property
    def number_of(self) -> dict[str, int]:
        """The number of each image, by the hash that stands for its name in a journal."""
        return {name: number for number, name in enumerate(self._ids)}

    def open(self) -> None:
        """Read what an unfinished run has done, and start this one. Only the run that holds the output folder may call it.

        What was done under another number of shards counts, too. Shards of that number are not at work, see `partial_folder`.

        Raises:
            UnfinishedRun: for an unfinished run with other settings, a continual one, or a damaged file; and for a shard of a run
                that came to its end.
        """
        if not self.on_disk:
            return
        with hold(self.out / FOLDER_LOCK, wait=True):
            there = to_resume(self.journal, restart=self.restart)
            existing = {path_hash(p.relative_to(self.out)): p for p in self.out.rglob("*") if p.is_file()} if there else {}
            try:
                kept = [line for journal in there for line in self._resume(journal, existing)]
            except UnfinishedRun:
                self.cases.clear()  # a run that is refused puts nothing on record
                raise
            self.of_earlier_run = frozenset(self.cases)
            self.journal.write([{"settings": self.settings}, note_of_starts(self.starts), *kept])
            if self.restart:
                for journal in journals(self.out):
                    if journal != self.journal:
                        journal.path.unlink(missing_ok=True)

    def order(self) -> list[int]:
        """Numbers of the unfinished images, first those that were never begun.

        An image that ends the process, whenever it is worked on, thus does so after all others are finished.
        """
        unfinished = [number for number in self.share if number not in self.cases]
        return [n for n in unfinished if n not in self.begun] + [n for n in unfinished if n in self.begun]

    def begin(self, number: int) -> None:
        """Note that an image is being worked on."""
        self._append({"begun": self._ids[number]})

    def done(
        self,
        number: int,
        case: Case,
        masks: tuple[Path, ...],
        content: str | None = None,
        notes: tuple[str, ...] = (),
        beside: BesideMasks = BesideMasks(),  # noqa: B008
    ) -> None:
        """Note that an image's masks are at their final places.

        Args:
            number: of the image.
            case: its record.
            masks: its masks.
            content: the `content_id` that it had before it was read; None for the one that it has now.
            notes: what a person should know of how it was read; without paths and names.
            beside: what else lies beside its masks.
        """
        self.cases[number] = case
        self.masks[number] = masks
        self.notes[number] = notes
        self.beside[number] = beside
        hashes = {
            "masks": [path_hash(file.relative_to(self.out)) for file in masks],
            "beside": {kind: path_hash(file.relative_to(self.out)) for kind, file in beside.files().items()},
        }
        if self.on_disk:
            content = content_id(self.images[number]) if content is None else content
        record = json.loads(case.to_json())
        self._append({"done": self._ids[number], "content": content, **hashes, "notes": list(notes), "case": record})

    def put_on_record(self, number: int, entry: dict[str, Any]) -> None:
        """Keep what the records say of an image of a shard's, also of one that failed, for whoever puts the shards together.

        Args:
            number: of the image.
            entry: as in ``records.json``.
        """
        if not self.shard.is_whole and self._entries.get(number) != entry:
            self._entries[number] = entry
            self._append({"recorded": self._ids[number], "entry": entry})

    def end(self) -> None:
        """Note that every image of the share had its turn."""
        self._append(ENDED)

    def close(self) -> None:
        """End the run: there is nothing left to resume, of whatever number of shards."""
        if self.on_disk:
            remove_journals(self.journal)

    def check_settings(self, journal: Journal, first_line: Line) -> None:
        """Check that a journal is one of this run.

        Raises:
            UnfinishedRun: where it has other settings.
        """
        found = first_line["settings"] if isinstance(first_line["settings"], dict) else {}
        if other := sorted(name for name in {*found, *self.settings} if found.get(name) != self.settings.get(name)):
            again = "--restart to start from the first image" if self.shard.is_whole else how_to_start_again(self.shard)
            raise UnfinishedRun(
                f"{self.out} holds an unfinished run with another {', '.join(other)}; give the same, or another --out, or {again}"
            )

    def _resume(self, journal: Journal, existing: Mapping[str, Path]) -> list[Line]:
        """Take over what a journal says of this share; its lines that are still true."""
        lines = journal.lines()
        is_beside = journal.shard.count == self.shard.count and journal != self.journal
        if is_beside or any("done" in line for line in lines[1:]):
            if lines:
                self.check_settings(journal, lines[0])
            if self.settings.get("reset") == "never":
                raise UnfinishedRun(
                    f"{self.out} holds an unfinished continual run (reset never), and what it had learnt from image to image is "
                    "lost; --restart starts from the first image"
                )
        try:
            self.starts += starts_in(lines, self.settings)
            return [] if is_beside else self._take_over(lines[1:], existing, is_own=journal == self.journal)
        except (ValueError, KeyError, TypeError) as error:
            raise journal.damaged() from error

    def _take_over(self, lines: list[Line], existing: Mapping[str, Path], is_own: bool) -> list[Line]:
        """Note what an earlier run did. An image that changed, or whose mask was removed or renamed, is segmented again.

        The share's own journal keeps its lines on images that are not there now, or are other ones: they may come back.
        """
        number_of = self.number_of
        mine = set(self.share)
        kept: list[Line] = []
        for line in lines:
            named = line.get("begun", line.get("done"))
            if named is not None and (is_own or number_of.get(named) in mine):
                kept.append(line)
            if "begun" in line and number_of.get(line["begun"]) in mine:
                self.begun.add(number_of[line["begun"]])
            if (
                "done" in line
                and number_of.get(line["done"]) in mine
                and all(name in existing for name in [*line["masks"], *line["beside"].values()])
            ):
                number = number_of[line["done"]]
                if line.get("content") != content_id(self.images[number]):
                    continue
                self.cases[number] = Case.from_json(json.dumps(line["case"]))
                self.masks[number] = tuple(existing[name] for name in line["masks"])
                self.beside[number] = BesideMasks(**{kind: existing[name] for kind, name in line["beside"].items()})
                self.notes[number] = tuple(map(str, line["notes"]))
            if "recorded" in line and number_of.get(line["recorded"]) in self.cases:
                self._entries[number_of[line["recorded"]]] = line["entry"]
                kept.append(line)
        return kept

    def _append(self, line: Line) -> None:
        if self.on_disk:
            self.journal.append(line)
