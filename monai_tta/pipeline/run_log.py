"""What an unfinished run has done so far, so that the same command resumes it.

A hidden file of the output folder has one line of JSON per event. Images and masks are in it as hashes, never by name or path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from monai_tta.core.record import Case
from monai_tta.pipeline.output_folder import write_atomically

NAME = ".monai_tta_run.jsonl"
_HASHED_END = 1 << 16  # bytes of an image file that are hashed, at its beginning and at its end
_HASHED_SLICE = 1 << 12  # bytes of each file of a DICOM series


class UnfinishedRun(ValueError):
    """The output folder holds an unfinished run that this one cannot resume; the message says why and what to do."""


class RunLog:
    """What was done of a run's images, kept in a file of ``out`` for as long as the run is unfinished.

    Args:
        out: the folder for masks.
        images: in the order in which they are segmented.
        settings: everything that a mask depends on besides its image.
        restart: whether to forget an unfinished run instead of resuming it.
        on_disk: whether there is a file; otherwise nothing outlives this process.
        files_of: the files that an image's case is made of; None where that is the image alone.

    Attributes:
        cases: the record of each finished image, by the image's number.
        masks: the mask files of each finished image.
        begun: numbers of the images that were worked on, finished or not.
        of_earlier_run: numbers of the images that an earlier run finished.
    """

    def __init__(
        self,
        out: Path,
        images: Iterable[Path],
        settings: dict[str, Any],
        *,
        restart: bool = False,
        on_disk: bool = True,
        files_of: Callable[[Path], Iterable[Path]] | None = None,
    ) -> None:
        self.out = out
        self.path = out / NAME
        self.images = list(images)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.restart = restart
        self.on_disk = on_disk
        self.cases: dict[int, Case] = {}
        self.masks: dict[int, tuple[Path, ...]] = {}
        self.begun: set[int] = set()
        self.of_earlier_run: frozenset[int] = frozenset()
        parts = [[image] if files_of is None else list(files_of(image)) for image in self.images if on_disk]
        ids = _numbered("+".join(image_id(file) for file in files) for files in parts)
        self._ids = ids if on_disk else [""] * len(self.images)

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

    def done(self, number: int, case: Case, masks: tuple[Path, ...]) -> None:
        """Note that an image's masks are at their final places."""
        self.cases[number] = case
        self.masks[number] = masks
        names = [_path_hash(mask.relative_to(self.out)) for mask in masks]
        self._append({"done": self._ids[number], "masks": names, "case": json.loads(case.to_json())})

    def records(self) -> list[Case | None]:
        """A record for each image, in their order; None where there is none."""
        return [self.cases.get(number) for number in range(len(self.images))]

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
        """Note what an earlier run did. An image whose mask was removed or renamed is segmented again."""
        number_of = {name: number for number, name in enumerate(self._ids)}
        existing = {_path_hash(p.relative_to(self.out)): p for p in self.out.rglob("*") if p.is_file()} if lines else {}
        for line in lines:
            if "begun" in line and line["begun"] in number_of:
                self.begun.add(number_of[line["begun"]])
            if "done" in line and line["done"] in number_of and all(name in existing for name in line["masks"]):
                number = number_of[line["done"]]
                self.cases[number] = Case.from_json(json.dumps(line["case"]))
                self.masks[number] = tuple(existing[name] for name in line["masks"])

    def _damaged(self) -> UnfinishedRun:
        return UnfinishedRun(f"{self.path} is damaged; --restart starts from the first image and replaces it")

    def _append(self, line: dict[str, Any]) -> None:
        if not self.on_disk:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def image_id(image: Path) -> str:
    """A hash that tells images apart.

    Of a file: its name, size, and first and last 64 KiB. Of a folder: its files' names, sizes and first 4 KiB.
    """
    digest = hashlib.sha256(os.fsencode(image.name))
    try:
        files = sorted(p for p in image.iterdir() if p.is_file()) if image.is_dir() else [image]
        for file in files:
            size = file.stat().st_size if file.is_file() else -1
            digest.update(os.fsencode(file.name) + f"/{size}/".encode())
            if size > 0:
                digest.update(_sample(file, size, both_ends=file is image))
    except OSError:
        digest.update(b"unreadable")  # the image fails when its turn comes, and says why
    return digest.hexdigest()[:32]


def _sample(path: Path, size: int, both_ends: bool) -> bytes:
    with path.open("rb") as file:
        if not both_ends:
            return file.read(_HASHED_SLICE)
        start = file.read(_HASHED_END)
        file.seek(max(0, size - _HASHED_END))
        return start + file.read(_HASHED_END)


def content_hash(path: Path) -> str:
    """A hash of a whole file; "" where there is none."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _numbered(names: Iterable[str]) -> list[str]:
    """Names with a number after the second and each further one that is the same: one image given twice is two images."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}-{counts[name]}" if counts[name] else name)
    return found


def _path_hash(relative: Path) -> str:
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
