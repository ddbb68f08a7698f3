"""The records of a run without the names in them, for a page that others may see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_tta.pipeline.find_images import ENDINGS
from monai_tta.pipeline.private_text import THE_IMAGE, without_paths

LEFT_OUT = "left out, because it may name the case"
_NAMED = ("name", "masks", "uncertainty_map", "image_hash", "preview")  # what `run --anonymous` leaves out of a case
_TEXTS = ("reason", "error", "labels_note", "restarted", "uncertainty_note", "quality_note")
_FILE = re.compile(rf"[^\s'\"]+(?:{'|'.join(map(re.escape, sorted(ENDINGS, key=len, reverse=True)))})(?!\w)", re.IGNORECASE)


def anonymous_records(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same records with numbers alone. A message that may hold a part of a case's name is left out as a whole.

    The day of the run is left out, too: where images are segmented on the day when they are made, it is theirs.

    Args:
        document: what ``records.json`` holds.
    """
    cases = document["cases"] if document["run"]["anonymous"] else [_anonymous(case) for case in document["cases"]]
    run = {key: value for key, value in document["run"].items() if key != "starts"}
    return {**document, "run": {**run, "anonymous": True}, "cases": cases}


def _anonymous(case: Mapping[str, Any]) -> dict[str, Any]:
    name = case["name"]
    kept = {key: value for key, value in case.items() if key not in _NAMED}
    kept |= {key: _clean(case[key], name) for key in _TEXTS if case.get(key)}
    kept["notes"] = [_clean(note, name) for note in case["notes"]]
    kept["labels"] = [{key: value for key, value in label.items() if key != "file"} for label in case["labels"]]
    if case["status"] != "adapted":  # of an adapted one it says nothing that a file could have said
        what, _, why = case["in_words"].partition(": ")
        kept["in_words"] = f"{what}: {_clean(why, name)}" if why else what
    return kept


def _clean(text: str, name: str) -> str:
    """A message without the name of its case, whose words are those of the image's folders and of its file."""
    found = without_paths(text, Path(name), anonymous=True, name=name)
    telling = [word for word in re.split(r"[\W_]+", name) if len(word) > 2 and not word.isdecimal()]
    if any(re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", found, re.IGNORECASE) for word in telling):
        return LEFT_OUT
    return _FILE.sub(THE_IMAGE, found)
