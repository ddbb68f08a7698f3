"""What an unfinished run has done so far, so that the same command resumes it.

A hidden file of the output folder has one line of JSON per event. Images and masks are in it as hashes, never by name or path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_tta.core.record import Case
from monai_tta.pipeline.image_names import numbered
from monai_tta.pipeline.output_folder import write_atomically

NAME = ".monai_tta_run.jsonl"
_WITH_COMPANIONS = (".mhd", ".nhdr", ".hdr", ".img", ".img.gz")  # endings of images whose voxels or header lie in another file


class UnfinishedRun(ValueError):
    """The output folder holds an unfinished run that this one cannot resume; the message says why and what to do."""


class RunLog:
    """What was done of a run's images, kept in a file of ``out`` for as long as the run is unfinished.

    Args:
        out: the folder for masks.
        images: in the order in which they are segmented.
        settings: everything that a mask depends on besides its image.
        names: of the images, unique; None for their files' names.
        restart: whether to forget an unfinished run instead of resuming it.
        on_disk: whether there is a file; otherwise nothing outlives this process.

    Attributes:
        cases: the record of each finished image, by the image's number.
        masks: the mask files of each finished image.
        maps: the map of uncertainty of each finished image that has one.
        notes: what a person should know of how each finished image was read.
        begun: numbers of the images that were worked on, finished or not.
        of_earlier_run: numbers of the images that an earlier run finished.
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
    ) -> None:
        self.out = out
        self.path = out / NAME
        self.images = list(images)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.restart = restart
        self.on_disk = on_disk
        self.cases: dict[int, Case] = {}
        self.masks: dict[int, tuple[Path, ...]] = {}
        self.maps: dict[int, Path] = {}
        self.notes: dict[int, tuple[str, ...]] = {}
        self.begun: set[int] = set()
        self.of_earlier_run: frozenset[int] = frozenset()
        self.names = numbered([image.name for image in self.images] if names is None else names)
        self._ids = [_path_hash(name) for name in self.names]

    def open(self) -> None:
        """Read what an unfinished run has done, and start this one. Only the run that holds the output folder may call it.

        Raises:
            UnfinishedRun: for an unfinished run with other settings, a continual one, or a damaged file.
        """
        lines = self._read_lines() if self.on_disk and not self.restart else []
        if any("done" in line for line in lines[1:]):
            self._check_resumable(lines[0])
        try:
            self._take_over(lines[1:])
        except (ValueError, KeyError, TypeError) as error:
            self.cases.clear()
            raise self._damaged() from error
        self.of_earlier_run = frozenset(self.cases)
        if self.on_disk:
            kept = [{"settings": self.settings}, *lines[1:]]
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def order(self) -> list[int]:
        """Numbers of the unfinished images, first those that were never begun.

        An image that ends the process, whenever it is worked on, thus does so after all others are finished.
        """
        unfinished = [number for number in range(len(self.images)) if number not in self.cases]
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
        uncertainty_map: Path | None = None,
    ) -> None:
        """Note that an image's masks are at their final places.

        Args:
            number: of the image.
            case: its record.
            masks: its masks.
            content: the `content_id` that it had before it was read; None for the one that it has now.
            notes: what a person should know of how it was read; without paths and names.
            uncertainty_map: the map of its uncertainty; None where there is none.
        """
        self.cases[number] = case
        self.masks[number] = masks
        self.notes[number] = notes
        if uncertainty_map is not None:
            self.maps[number] = uncertainty_map
        maps = [] if uncertainty_map is None else [uncertainty_map]
        hashes = {
            kind: [_path_hash(file.relative_to(self.out)) for file in files] for kind, files in (("masks", masks), ("maps", maps))
        }
        if self.on_disk:
            content = content_id(self.images[number]) if content is None else content
        record = json.loads(case.to_json())
        self._append({"done": self._ids[number], "content": content, **hashes, "notes": list(notes), "case": record})

    def close(self) -> None:
        """End the run: there is nothing left to resume."""
        self.path.unlink(missing_ok=True)

    def _read_lines(self) -> list[dict[str, Any]]:
        """All whole lines. What a killed process left of its last line does not count."""
        if not self.path.exists():
            return []
        try:
            whole = self.path.read_bytes().decode().split("\n")[:-1]
            lines = [json.loads(line) for line in whole]
            if not all(isinstance(line, dict) for line in lines) or (lines and "settings" not in lines[0]):
                raise ValueError("not a run log")
        except (ValueError, RecursionError) as error:
            raise self._damaged() from error
        return lines

    def _check_resumable(self, first_line: dict[str, Any]) -> None:
        found = first_line["settings"] if isinstance(first_line["settings"], dict) else {}
        if other := sorted(name for name in {*found, *self.settings} if found.get(name) != self.settings.get(name)):
            raise UnfinishedRun(
                f"{self.out} holds an unfinished run with another {', '.join(other)}; "
                "give the same, or another --out, or --restart to start from the first image"
            )
        if self.settings.get("reset") == "never":
            raise UnfinishedRun(
                f"{self.out} holds an unfinished continual run (reset never), and what it had learnt from image to image is "
                "lost; --restart starts from the first image"
            )

    def _take_over(self, lines: list[dict[str, Any]]) -> None:
        """Note what an earlier run did. An image that changed, or whose mask or map is not there any more, is segmented again."""
        number_of = {name: number for number, name in enumerate(self._ids)}
        existing = {_path_hash(p.relative_to(self.out)): p for p in self.out.rglob("*") if p.is_file()} if lines else {}
        for line in lines:
            if "begun" in line and line["begun"] in number_of:
                self.begun.add(number_of[line["begun"]])
            if "done" in line and line["done"] in number_of and all(name in existing for name in [*line["masks"], *line["maps"]]):
                number = number_of[line["done"]]
                if line.get("content") != content_id(self.images[number]):
                    continue
                self.cases[number] = Case.from_json(json.dumps(line["case"]))
                self.masks[number] = tuple(existing[name] for name in line["masks"])
                for name in line["maps"]:
                    self.maps[number] = existing[name]
                self.notes[number] = tuple(map(str, line["notes"]))

    def _damaged(self) -> UnfinishedRun:
        return UnfinishedRun(f"{self.path} is damaged; --restart starts from the first image and replaces it")

    def _append(self, line: dict[str, Any]) -> None:
        if not self.on_disk:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def content_id(image: Path) -> str:
    """A hash of all that an image consists of: the whole file, or the names and contents of all files in a folder.

    A header whose voxels lie in another file is hashed with all files beside it that are called alike or that it names. Reading
    everything once takes about a second for 1 to 2 GB that are in memory, and as long as the disk takes otherwise.
    """
    digest = hashlib.sha256()
    try:
        for file in _files_of(image):
            digest.update(os.fsencode(file.name) + f"/{content_hash(file)}/".encode())
    except OSError:
        digest.update(b"unreadable")  # the image fails when its turn comes, and says why
    return digest.hexdigest()[:32]


def _files_of(image: Path) -> list[Path]:
    if image.is_dir():
        return sorted(path for path in image.iterdir() if path.is_file())
    if not image.name.lower().endswith(_WITH_COMPANIONS):
        return [image]
    stem = image.name.split(".")[0]
    with image.open("rb") as file:
        header = file.read(1 << 16)
    beside = (path for path in image.parent.iterdir() if path != image and path.is_file())
    return [image, *sorted(path for path in beside if path.name.startswith(stem) or os.fsencode(path.name) in header)]


def content_hash(path: Path) -> str:
    """A hash of a whole file; "" where there is none."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _path_hash(relative: Path | str) -> str:
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
