"""The report of a run: one page for the person who decides which masks to use, from ``records.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_tta.reporting.case_rows import expected_words, fact_rows, input_words, label_rows, quality_rows, structure_name
from monai_tta.reporting.error_words import without_error_class
from monai_tta.reporting.judged_case import FAILED, ORDER, UNSORTED, JudgedCase, judged_cases
from monai_tta.reporting.masks_to_use import REFUSE, USE
from monai_tta.reporting.number_format import four_digits, number_of, two_digits, wanted_dice
from monai_tta.reporting.run_verdict import verdict
from monai_tta.reporting.slice_pictures import UNADAPTED_TITLE, CasePictures
from monai_tta.reporting.step_curves import UNITS, step_curves
from monai_tta.reporting.templates import embedded, fill_template

_TONES = {USE: "use", REFUSE: "refuse", FAILED: "refuse", UNSORTED: "unsorted"}  # the others are to be looked at
_HEAD = ("bundle", "checkpoint", "method")  # settings of a run that a reader wants first


def report_page(document: Mapping[str, Any], accept: float | None, pictures: Mapping[int, CasePictures] = {}) -> str:
    """The page: verdict, table of all masks, and each case by itself.

    Args:
        document: what ``records.json`` holds.
        accept: the Dice that a mask must have, in (0, 1); None sorts by nothing but failures and unusual inputs.
        pictures: by the number of a case. They make it a page with pixels of patients.
    """
    run = document["run"]
    cases = judged_cases(document, accept)
    return fill_template(
        "report.html",
        {"runs": {"command": run["command"]}, "versions": run["versions"]},
        _head(run, len(cases)),
        heading="Which of these masks can be used?",
        holds_pixels=bool(pictures),
        verdict=verdict(cases, run, accept),
        accept=accept and wanted_dice(accept),
        command_note=run["command_note"],
        chosen=_chosen(run["settings"]),
        kinds=[what for what in ORDER if any(case.what == what for case in cases)],
        units=UNITS,
        has_ranking=any(case.ranking is not None for case in cases),
        cases=[_on_page(case, pictures.get(case.entry["number"])) for case in cases],
    )


def _head(run: Mapping[str, Any], cases: int) -> dict[str, str]:
    """What was run and when, in one line. Of a method the name alone; its settings stand with each case."""
    settings = run["settings"]
    said = {name: str(settings[name]).partition("(")[0] for name in _HEAD if settings.get(name)}
    return said | {"cases": number_of(cases, "images")} | _starts(run.get("starts") or ())


def _starts(starts: Sequence[str]) -> dict[str, str]:
    """When the run was started; anonymous records and those of earlier versions do not say it."""
    words = [f"{start[:16].replace('T', ' ')} (UTC{start[19:]})" for start in starts]
    if len(words) < 2:
        return {"started": words[0]} if words else {}
    return {"started": words[0], f"last of {len(words)} starts": words[-1]}


def _chosen(settings: Mapping[str, Any]) -> dict[str, str]:
    """What was chosen, in words; what was left empty was not chosen."""
    given = {name: value for name, value in settings.items() if value not in (None, "", [])}
    return {name.replace("_", " "): four_digits(value) for name, value in given.items()}


def _on_page(case: JudgedCase, pictures: CasePictures | None) -> dict[str, Any]:
    """What the template shows of one case."""
    entry = case.entry
    return {
        "number": entry["number"],
        "name": case.name,
        "what": case.what,
        "tone": _TONES.get(case.what, "look"),
        "worst": structure_name(case.expected) if case.expected else "",
        "expected": expected_words(case.expected),
        "low": case.expected["low"] if case.expected else -1,
        "ranking": "" if case.ranking is None else two_digits(case.ranking),
        "ranked": -1 if case.ranking is None else case.ranking,
        "is_unusual": case.is_unusual,
        "status": entry["status"],
        "seconds": entry["seconds"],
        "in_words": without_error_class(entry["in_words"]),
        "input": input_words(entry),
        "notes": [*map(without_error_class, entry["notes"]), *([entry["labels_note"]] if entry["labels_note"] else [])],
        "restarted": entry.get("restarted"),
        "quality": quality_rows(entry),
        "has_unadapted": bool(entry.get("quality_unadapted")),
        "quality_note": entry.get("quality_note"),
        "labels": label_rows(entry),
        "facts": dict(fact_rows(entry)),
        "curves": step_curves(entry.get("steps") or ()),
        "pictures": pictures,
        "panels": _panels(entry, pictures) if pictures else [],
        "slices": [{"caption": caption, "image": embedded(png)} for caption, png in (pictures.slices if pictures else ())],
        "preview": embedded(pictures.preview) if pictures and pictures.preview else "",
    }


def _panels(entry: Mapping[str, Any], pictures: CasePictures) -> list[str]:
    """What stands beside each other in the pictures of a case."""
    masks = [UNADAPTED_TITLE] if pictures.has_unadapted else []
    return ["image", *masks, f"{entry['status']} mask", *(["uncertainty"] if pictures.largest else [])]
