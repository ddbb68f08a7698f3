"""The records of a run as a table for a spreadsheet: ``records.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from monai_tta.pipeline.quality_words import quality_columns
from monai_tta.reporting.number_format import label_amount

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute


def as_csv(document: Mapping[str, Any]) -> str:
    """The cases of ``records.json`` as a table: a row for each case, and a column for each label with its unit.

    Args:
        document: what `Records.document` returned.
    """
    cases = document["cases"]
    columns = [
        "number",
        *([] if document["run"]["anonymous"] else ["name", "masks"]),
        "status",
        "in_words",
        "input_check",
        "seconds",
    ]
    labels = list(dict.fromkeys(name for case in cases for name in {**_amounts(case["labels"]), **quality_columns(case)}))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([_cell(name) for name in (*columns, *labels)])
    for case in cases:
        amounts = {**_amounts(case["labels"]), **quality_columns(case)}
        own = ["; ".join(case[name]) if name == "masks" else case.get(name) for name in columns]
        table.writerow([_cell(value) for value in (*own, *(amounts.get(name) for name in labels))])
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


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
