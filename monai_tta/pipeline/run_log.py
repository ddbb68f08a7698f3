"""What a run has done so far, so that the same command goes on where it was stopped: one line of JSON per event, in a hidden
file of the output folder. Images and masks are in it as hashes, never by name or by path."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monai_tta.core.record import Case
from monai_tta.pipeline.output_folder import write_atomically

NAME = ".monai_tta_run.jsonl"
_SAMPLE = 1 << 16


class UnfinishedRun(ValueError):
    """The output folder holds an unfinished run that this one can't go on with; the message says why and what to do."""


def identity(image: Path) -> str:
    """A hash of an image's name, size, and first and last 64 KiB; of a folder, of its files' names, sizes and first 4 KiB."""
    found = hashlib.sha256(os.fsencode(image.name))
    parts = [image]
    try:
        parts = sorted(p for p in image.iterdir() if p.is_file()) if image.is_dir() else parts
        for part in parts:
            size = part.stat().st_size if part.is_file() else -1
            found.update(os.fsencode(part.name) + f"/{size}/".encode())
            if size > 0:
                with part.open("rb") as file:
                    found.update(file.read(_SAMPLE if part is image else 4096))
                    if part is image:
                        file.seek(max(0, size - _SAMPLE))
                        found.update(file.read(_SAMPLE))
    except OSError:
        found.update(b"unreadable")  # the image fails when its turn comes, and says why
    return found.hexdigest()[:32]


def content(path: Path) -> str:
    """A hash of all of a file, "" where there is none."""
    if not path.is_file():
        return ""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()[:32]


class RunLog:
    """What was done of these images, in a file of ``out`` as long as the run is unfinished.

    Args:
        out: the folder that masks go to.
        images: in the order in which they are taken.
        settings: whatever a mask depends on besides its image.
        anew: forget an unfinished run instead of going on with it.
        kept: in a file; otherwise only as long as this process lives.

    `open` raises `UnfinishedRun` when ``out`` holds an unfinished run with other settings, or a continual one.
    """

    def __init__(
        self, out: Path, images: Iterable[Path], settings: dict[str, Any], *, anew: bool = False, kept: bool = True
    ) -> None:
        self.out, self.images = out, list(images)
        self.path = out / NAME
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._ids = _distinct(identity(image) for image in self.images) if kept else [""] * len(self.images)
        self.cases: dict[int, Case] = {}
        self.masks: dict[int, tuple[Path, ...]] = {}
        self.begun: set[int] = set()
        self.before: frozenset[int] = frozenset()
        self.anew, self.kept = anew, kept

    def open(self) -> None:
        """Read what an unfinished run has done, and begin; for whoever holds the output folder alone."""
        lines = [] if self.anew or not self.kept else self._lines()
        if any("done" in line for line in lines[1:]):
            self._check(lines[0])
        if lines:
            try:
                self._take(lines[1:])
            except (ValueError, KeyError, TypeError) as error:
                self.cases.clear()
                raise self._damaged() from error
        self.before = frozenset(self.cases)
        if self.kept:
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in [{"settings": self.settings}, *lines[1:]]))

    def _damaged(self) -> UnfinishedRun:
        return UnfinishedRun(f"{self.path} is damaged; --restart starts from the first image and replaces it")

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines; what a killed process left of its last one doesn't count."""
        if not self.path.exists():
            return []
        try:
            whole = self.path.read_bytes().decode().split("\n")[:-1]
            lines = [json.loads(line) for line in whole]
            if not all(isinstance(line, dict) for line in lines) or (lines and "settings" not in lines[0]):
                raise ValueError("not a journal")
        except (ValueError, RecursionError) as error:
            raise self._damaged() from error
        return lines

    def _check(self, first: dict[str, Any]) -> None:
        found = first["settings"] if isinstance(first["settings"], dict) else {}
        if other := sorted(k for k in {*found, *self.settings} if found.get(k) != self.settings.get(k)):
            raise UnfinishedRun(
                f"{self.out} holds an unfinished run with another {', '.join(other)}; "
                "give the same, or another --out, or --restart to start from the first image"
            )
        if self.settings.get("reset") == "never":
            raise UnfinishedRun(
                f"{self.out} holds an unfinished continual run (reset never), and what it had learnt from image to image is "
                "lost; --restart starts from the first image"
            )

    def _take(self, lines: list[dict[str, Any]]) -> None:
        """What of it is still there: a mask that was removed is made again."""
        place = {name: i for i, name in enumerate(self._ids)}
        there = {_hashed(p.relative_to(self.out)): p for p in self.out.rglob("*") if p.is_file()}
        for line in lines:
            if "begun" in line and line["begun"] in place:
                self.begun.add(place[line["begun"]])
            if "done" in line and line["done"] in place and all(name in there for name in line["masks"]):
                number = place[line["done"]]
                self.cases[number] = Case.from_json(json.dumps(line["case"]))
                self.masks[number] = tuple(there[name] for name in line["masks"])

    def order(self) -> list[int]:
        """What is left to do: first what was never begun, lest an image that ends the process does so before the others."""
        left = [i for i in range(len(self.images)) if i not in self.cases]
        return [i for i in left if i not in self.begun] + [i for i in left if i in self.begun]

    def begin(self, number: int) -> None:
        """Note that an image is being worked on."""
        self._add({"begun": self._ids[number]})

    def done(self, number: int, case: Case, masks: tuple[Path, ...]) -> None:
        """Note that an image's masks are in their places."""
        self.cases[number], self.masks[number] = case, masks
        names = [_hashed(mask.relative_to(self.out)) for mask in masks]
        self._add({"done": self._ids[number], "masks": names, "case": json.loads(case.to_json())})

    def _add(self, line: dict[str, Any]) -> None:
        if not self.kept:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[Case | None]:
        """A record for each image in their order, None where there is none (yet)."""
        return [self.cases.get(i) for i in range(len(self.images))]

    def close(self) -> None:
        """The run is over: there is nothing to go on with."""
        self.path.unlink(missing_ok=True)


def _distinct(names: Iterable[str]) -> list[str]:
    """The second and further of the same name get numbers: one image given twice is two images."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        found.append(f"{name}-{seen[name]}" if seen[name] else name)
    return found


def _hashed(relative: Path) -> str:
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
