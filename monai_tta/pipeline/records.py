"""The records of a run, for people and programs: ``records.json`` and ``records.csv`` beside the masks.

Of a patient they hold the masks' file names and nothing else. ``records.schema.json`` says what is in them, and docs/records.md
says it in words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from monai_tta._version import __version__
from monai_tta.compute.json_values import finite_json
from monai_tta.core.record import Case
from monai_tta.pipeline.case_file import files_of
from monai_tta.pipeline.case_words import case_in_words
from monai_tta.pipeline.image_names import name_of
from monai_tta.pipeline.label_ranges import LabelRanges
from monai_tta.pipeline.mask_labels import LabelAmount, LabelNames, UnknownLabels, amounts_in
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.output_folder import write_atomically
from monai_tta.pipeline.private_text import without_paths
from monai_tta.pipeline.quality_words import quality_on_record
from monai_tta.pipeline.records_table import as_csv

SCHEMA = "monai_tta.records"
SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("records.schema.json")
JSON_NAME = "records.json"
CSV_NAME = "records.csv"
LEFT_OUT = "the command leaves out the paths of images and folders: IMAGES, OUT, and files by their last name"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run's records say on top.

    Args:
        command: the command line without the paths of images and folders.
        settings: everything that was chosen, by name, without paths.
        names: what the bundle calls its labels.
        anonymous: whether the names of cases and masks are left out.
        ranges: how much of each label the source's own cases hold.
        intensity_range: the values in a file that the bundle scales for its network; None where it scales by each image.
    """

    command: str
    settings: Mapping[str, Any]
    names: LabelNames = LabelNames({})
    anonymous: bool = False
    ranges: LabelRanges = LabelRanges()
    intensity_range: tuple[float, float] | None = None


@dataclass
class Records:
    """The records of a run, which grow with each image and are written at its end, or when it is stopped.

    Args:
        out: the folder for masks, in which the files are written.
        facts: what stands on top.
        images: how many images the run has.
        starts: when it was started and resumed, as `monai_tta.pipeline.run_starts` writes it.
    """

    out: Path
    facts: RunFacts
    images: int
    starts: list[str] = field(default_factory=list)
    _entries: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)

    def numbers(self) -> set[int]:
        """The places, from 0, of the images that are on record."""
        return set(self._entries)

    def add(self, outcome: Outcome) -> dict[str, Any]:
        """Put an image on record, count the labels in its masks, and return what the records then say of it.

        Args:
            outcome: what came of it.
        """
        entry = self._entry(outcome)
        self.put(outcome.number, entry)
        return entry

    def put(self, number: int, entry: Mapping[str, Any]) -> None:
        """Put what another process found of an image on record.

        Args:
            number: the image's place among all images, from 0.
            entry: what stands in the records.
        """
        self._entries[number] = {**entry, "number": number}

    def document(self, *, finished: bool) -> dict[str, Any]:
        """What ``records.json`` holds.

        Args:
            finished: whether the run came to its end. The cases of one that was stopped are those that it came to.
        """
        cases = [self._entries[number] for number in sorted(self._entries)]
        counts = {status: sum(case["status"] == status for case in cases) for status in ("adapted", "unadapted", "failed")}
        run = {
            "command": self.facts.command,
            "command_note": LEFT_OUT,
            "settings": dict(self.facts.settings),
            "intensity_range": self.facts.intensity_range,
            "versions": versions(),
            **({} if self.facts.anonymous else {"starts": self.starts}),
            "images": self.images,
            **counts,
            "finished": finished,
            "anonymous": self.facts.anonymous,
        }
        document: dict[str, Any] = finite_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "run": run, "cases": cases})
        return document

    def write(self, *, finished: bool) -> None:
        """Write both files, each to a temporary file first and then in one move.

        Args:
            finished: whether the run came to its end.

        Raises:
            OSError: when they cannot be written.
        """
        document = self.document(finished=finished)
        write_atomically(self.out / JSON_NAME, json.dumps(document, indent=1) + "\n")
        write_atomically(self.out / CSV_NAME, as_csv(document))

    def _entry(self, outcome: Outcome) -> dict[str, Any]:
        def private(text: str | None) -> str | None:
            folders = (self.out, *outcome.image.absolute().parents[:-1])
            return text and without_paths(text, outcome.image, folders, anonymous=self.facts.anonymous, name=outcome.name)

        case = outcome.case
        masks = [mask.relative_to(self.out).as_posix() for mask in outcome.masks]
        names: dict[str, Any] = {"name": outcome.name or name_of(outcome.image), "masks": masks}
        names["image_hash"] = case.image_hash if case else None
        names |= {kind: file and file.relative_to(self.out).as_posix() for kind, file in vars(outcome.beside).items()}
        error = None if case else private(outcome.error)
        labels, note = self._labels(outcome)
        reason = private(case.reason) if case else None
        return {
            "number": outcome.number,
            **({} if self.facts.anonymous else names),
            "status": "failed" if case is None else "adapted" if case.adapted else "unadapted",
            "in_words": case_in_words(case, reason, error),
            "reason": reason,
            "error": error,
            "notes": [private(note) for note in outcome.notes],
            "labels": labels,
            "labels_note": note,
            "seconds": case.seconds if case else outcome.seconds,
            **({**_details(case, private), **quality_on_record(case, self.facts.names)} if case else {}),
        }

    def _labels(self, outcome: Outcome) -> tuple[list[dict[str, Any]], str | None]:
        """The labels of a case, and why they are not there or cannot be trusted in full."""
        if outcome.case is None:
            return [], None
        try:
            found = amounts_in(outcome.masks, files_of(outcome.image)[0], self.facts.names, outcome.case.head)
        except UnknownLabels as error:
            return [], str(error)
        except OSError:
            return [], "the mask cannot be read to count its labels"
        own = [amount.on_record() for amount in found]
        if self.facts.anonymous:
            own = [{key: value for key, value in entry.items() if key != "file"} for entry in own]
        return self.facts.ranges.on_record(own, outcome.case.head), _labels_note(found)


def versions() -> dict[str, str]:
    """The versions of what masks depend on; "" for what is not installed as a package."""
    found = {"python": python_version(), "monai_tta": __version__}
    for name in ("monai", "torch", "numpy", "nibabel", "itk", "SimpleITK", "pillow", "nnunetv2", "highdicom", "pydicom"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _details(case: Case, private: Callable[[str | None], str | None]) -> dict[str, Any]:
    """What else the inferer's own record says, under the same names."""
    said = {"number", "reason", "seconds", "image_hash"}
    words = {"restarted": private(case.restarted), "uncertainty_note": private(case.uncertainty_note)}
    return {**{key: value for key, value in asdict(case).items() if key not in said}, **words}


def _labels_note(found: list[LabelAmount]) -> str | None:
    notes = []
    if any(amount.name is None for amount in found):
        notes.append("the bundle does not say what some labels are called")
    if any(amount.size is None for amount in found):
        notes.append("the image does not say how large a pixel is, so areas and volumes are unknown")
    return "; ".join(notes) or None
