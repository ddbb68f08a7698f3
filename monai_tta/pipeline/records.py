"""The records of a run, for people and programs: ``records.json`` and ``records.csv`` beside the masks.

Of a patient they hold the masks' file names and nothing else. ``records.schema.json`` says what is in them, and docs/records.md
says it in words.
"""

from __future__ import annotations

import csv
import io
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
from monai_tta.pipeline.quality_words import quality_columns, quality_on_record
from monai_tta.reporting.number_format import label_amount

SCHEMA = "monai_tta.records"
SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("records.schema.json")
JSON_NAME = "records.json"
CSV_NAME = "records.csv"
LEFT_OUT = "the command leaves out the paths of images and folders: IMAGES, OUT, and files by their last name"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run's records say on top.

    Args:
        command: the command line without the paths of images and folders.
        settings: everything that was chosen, by name, without paths.
        names: what the bundle calls its labels.
        anonymous: whether the names of cases and masks are left out.
        ranges: how much of each label the source's own cases hold.
    """

    command: str
    settings: Mapping[str, Any]
    names: LabelNames = LabelNames({})
    anonymous: bool = False
    ranges: LabelRanges = LabelRanges()


@dataclass
class Records:
    """The records of a run, which grow with each image and are written at its end, or when it is stopped.

    Args:
        out: the folder for masks, in which the files are written.
        facts: what stands on top.
        images: how many images the run has.
    """

    out: Path
    facts: RunFacts
    images: int
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
            "versions": versions(),
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
            "in_words": case_in_words(case, self.facts.names, reason, error),
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


def as_csv(document: Mapping[str, Any]) -> str:
    """The cases of ``records.json`` as a table: a row for each case, and a column for each label with its unit.

    Args:
        document: what `Records.document` returned.
    """
    cases = document["cases"]
    columns = ["number", *([] if document["run"]["anonymous"] else ["name", "masks"]), "status", "in_words", "seconds"]
    labels = list(dict.fromkeys(name for case in cases for name in {**_amounts(case["labels"]), **quality_columns(case)}))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([_cell(name) for name in (*columns, *labels)])
    for case in cases:
        amounts = {**_amounts(case["labels"]), **quality_columns(case)}
        own = [case[name] if name != "masks" else "; ".join(case[name]) for name in columns]
        table.writerow([_cell(value) for value in (*own, *(amounts.get(name) for name in labels))])
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


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


def _amounts(labels: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of a case's labels with their numbers. Labels of one name are told apart by where they are in the mask."""
    places = [" ".join(f"{key} {label[key]}" for key in ("file", "channel", "value") if key in label) for label in labels]
    columns = [_column(label, place) for label, place in zip(labels, places, strict=True)]
    names = [name for name, _ in columns]
    return {
        f"{place} {name}" if names.count(name) > 1 else name: amount
        for (name, amount), place in zip(columns, places, strict=True)
    }


def _column(label: Mapping[str, Any], place: str) -> tuple[str, Any]:
    """A label's column in the table and the number in it: ml or mm2 where they are known, else what was counted."""
    amount, unit = label_amount(label)
    return f"{label['name'] or place or 'label'} ({unit})", amount


def _cell(value: Any) -> Any:
    """A value as a cell. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
