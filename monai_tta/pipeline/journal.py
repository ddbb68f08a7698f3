"""The files in which runs note what they have done: hidden files of the output folder, a line of JSON per event.

The first line holds the settings. The journal of a run of all images is ``.monai_tta_run.jsonl``, that of a shard
``.monai_tta_run.3-of-16.jsonl``. Only the process that holds the shard's lock writes into it; any may read it. An empty
``.monai_tta_run.over`` says that a run is over, whatever journals are still there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_tta.pipeline.output_folder import write_atomically
from monai_tta.pipeline.shards import Shard

NAME = ".monai_tta_run.jsonl"
OVER = ".monai_tta_run.over"
_FILES = re.compile(r"\.monai_tta_run\.(?:(\d+)-of-(\d+)\.)?jsonl")
ENDED = {"ended": True}  # the last line of a shard's journal, when all its images had their turn
_LAST_LINE = (json.dumps(ENDED) + "\n").encode()


class UnfinishedRun(ValueError):
    """The output folder holds a run that this one cannot resume; the message says why and what to do."""


@dataclass(frozen=True)
class Journal:
    """One journal.

    Args:
        out: the folder for masks.
        shard: whose it is.
    """

    out: Path
    shard: Shard

    @property
    def path(self) -> Path:
        """Its file."""
        return self.out / NAME.replace(".jsonl", f".{self.shard.in_file_names}.jsonl" if self.shard.in_file_names else ".jsonl")

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines. What a killed process left of its last line does not count, nor what another is just writing.

        Raises:
            UnfinishedRun: for a file that is damaged.
        """
        if not self.path.exists():
            return []
        try:
            whole = self.path.read_bytes().decode().split("\n")[:-1]
            lines = [json.loads(line) for line in whole]
            if not all(isinstance(line, dict) for line in lines) or (lines and "settings" not in lines[0]):
                raise ValueError("not a run log")
        except (ValueError, RecursionError) as error:
            raise self.damaged() from error
        return lines

    def has_ended(self) -> bool:
        """Whether its last line says that every image had its turn. Nothing else is read, so that one may ask often."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - len(_LAST_LINE)))
                return file.read() == _LAST_LINE
        except FileNotFoundError:
            return False

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replace the file by one of these lines."""
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def append(self, line: dict[str, Any]) -> None:
        """Add a line, and wait until the disk has it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def damaged(self) -> UnfinishedRun:
        """What is said of a damaged file."""
        return UnfinishedRun(f"{self.path} is damaged; {how_to_start_again(self.shard)}")


def journals(out: Path) -> list[Journal]:
    """All journals of a folder, of whatever number of shards."""
    found = [_FILES.fullmatch(path.name) for path in sorted(out.glob(".monai_tta_run*.jsonl"))]
    return [Journal(out, Shard(int(name[1] or 1), int(name[2] or 1))) for name in found if name is not None]


def is_over(out: Path) -> bool:
    """Whether the records and the report of all shards are there, and only journals are left to be removed."""
    return (out / OVER).exists()


def to_resume(own: Journal, *, restart: bool) -> list[Journal]:
    """The journals that a process reads which begins.

    Args:
        own: that of this process.
        restart: whether it begins with the first image.

    Raises:
        UnfinishedRun: for a shard, where a run came to its end.
    """
    if is_over(own.out):  # whoever ended it was killed while it removed the journals
        remove_journals(own)
    there = [] if restart else journals(own.out)
    if not there and not own.shard.is_whole:
        check_not_finished(own.out)
    return there


def remove_journals(own: Journal) -> None:
    """Remove all journals of a folder, of whatever number of shards: their run is over.

    A process may be killed between any two of these steps. What one process did, and what it took over from shards, stands in its
    own journal, which is removed last, so that it resumes. What shards did stands in all their journals together: so a file says
    first that the run is over, and whoever starts next removes the rest.

    Args:
        own: that of this process.

    Raises:
        OSError: where they cannot be removed.
    """
    if not own.shard.is_whole:
        write_atomically(own.out / OVER, b"")
    others = [journal for journal in journals(own.out) if journal != own]
    for journal in [*others, own]:
        journal.path.unlink(missing_ok=True)
    for left_behind in own.out.glob("..monai_tta_run*.partial"):  # of a process that was killed while it began
        left_behind.unlink(missing_ok=True)
    (own.out / OVER).unlink(missing_ok=True)


def how_to_start_again(shard: Shard) -> str:
    """What a person does to start from the first image."""
    if shard.is_whole:
        return "--restart starts from the first image and replaces it"
    return "to start from the first image, end all shards and remove .monai_tta_run* in that folder"


def records_are_finished(out: Path) -> bool:
    """Whether the records in a folder say that their run came to its end."""
    try:
        run = json.loads((out / "records.json").read_text(encoding="utf-8"))["run"]
        return bool(run["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_not_finished(out: Path) -> None:
    """Check that a shard does not begin in a folder whose run came to its end: the records of the others would be lost.

    Args:
        out: the folder.

    Raises:
        UnfinishedRun: where it does.
    """
    if records_are_finished(out):
        raise UnfinishedRun(
            f"{out} holds a run that came to its end; a shard of a new one would replace its records: give another --out, or "
            "remove records.json there to segment all images again"
        )


def path_hash(relative: Path | str) -> str:
    """What stands for a name or a path in a journal."""
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
