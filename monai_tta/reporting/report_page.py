"""The report of a run: one page for the person who decides which masks to use, from ``records.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_tta.reporting.case_rows import expected_words, label_rows, quality_rows
from monai_tta.reporting.masks_to_use import LOOK, REFUSE, UNKNOWN, USE, judge
from monai_tta.reporting.number_format import counted
from monai_tta.reporting.step_curves import Curve, step_curves
from monai_tta.reporting.templates import embedded, fill_template

FAILED = "no mask: it failed"
CHECK = "look at it: its input is unusual"
UNSORTED = "not sorted: no worth is known"
ORDER = (REFUSE, FAILED, CHECK, LOOK, UNKNOWN, UNSORTED, USE)  # what needs a person comes first
_TONES = {USE: "use", REFUSE: "refuse", FAILED: "refuse", UNSORTED: "unsorted"}  # the others are to be looked at


@dataclass(frozen=True)
class ReportCase:
    """A case on the page.

    Args:
        entry: of the case in ``records.json``.
        what: one of `ORDER`.
        expected: what is expected of the structure that decided, an entry of ``quality``; None where nothing is known.
    """

    entry: Mapping[str, Any]
    what: str
    expected: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The case's name; in anonymous records its number."""
        return str(self.entry.get("name", f"image {self.entry['number']}"))

    @property
    def expected_words(self) -> str:
        """The expected Dice of the structure that decided, with its interval."""
        return expected_words(self.expected)


def report_page(
    document: Mapping[str, Any], accept: float | None, pictures: Mapping[int, Sequence[tuple[str, bytes]]] = {}
) -> str:
    """The page: verdict, table of all masks, and each case by itself.

    Args:
        document: what ``records.json`` holds.
        accept: the Dice that a mask must have, in (0, 1); None sorts by nothing but failures and unusual inputs.
        pictures: by the number of a case, captions and PNGs. They make it a page with pixels of patients.
    """
    run = document["run"]
    cases = sorted((_judged(entry, accept) for entry in document["cases"]), key=_place)
    return fill_template(
        "report.html",
        {"runs": {"command": run["command"]}},
        {name: number for name, number in run["versions"].items() if number},
        heading="Which of these masks can be used?",
        holds_pixels=any(pictures.values()),
        verdict=verdict(cases, run, accept),
        accept=accept,
        command_note=run["command_note"],
        chosen={name: value for name, value in run["settings"].items() if value not in (None, "")},
        kinds=[what for what in ORDER if any(case.what == what for case in cases)],
        cases=[_on_page(case, pictures.get(case.entry["number"], ())) for case in cases],
    )


def verdict(cases: Sequence[ReportCase], run: Mapping[str, Any], accept: float | None) -> list[str]:
    """What a person must know first, in sentences.

    Args:
        cases: of the run.
        run: its entry in ``records.json``.
        accept: the Dice that a mask must have; None where none was named.
    """
    total = len(cases)
    count = {what: sum(case.what == what for case in cases) for what in ORDER}
    said = []
    if not run["finished"]:
        said.append(f"The run was stopped: {total} of {run['images']} images have been done. The same command goes on with it.")
    if count[FAILED]:
        said.append(f"{counted(count[FAILED], total, 'images')} failed and have no mask.")
    if accept is not None and any(case.expected for case in cases):
        to_look = count[LOOK] + count[CHECK] + count[UNKNOWN]
        said.append(
            f"For a Dice of {accept:g} or more: {counted(count[USE], total, 'masks')} can be used as they are, {to_look} must be "
            f"looked at, {count[REFUSE]} should not be used."
        )
    else:
        said.append(
            "What the masks are worth is not known: look at each. The command monai-tta calibrate makes what it takes to know."
        )
    if count[CHECK]:
        said.append(f"{counted(count[CHECK], total, 'images')} do not look like the images that the network was made for.")
    said.append(f"{counted(run['adapted'], total, 'answers')} are adapted to their image; the other masks are the network's own.")
    return said


def _judged(entry: Mapping[str, Any], accept: float | None) -> ReportCase:
    """What to do with a case's mask. An unusual input that was not corrected is looked at whatever else is expected."""
    quality = entry.get("quality")
    if entry["status"] == "failed":
        return ReportCase(entry, FAILED, None)
    what, expected = UNSORTED if accept is None else UNKNOWN, None
    if quality and accept is not None:
        what, number = judge([(one["low"], one["high"]) for one in quality], accept)
        expected = quality[number]
    if what != REFUSE and str(entry.get("input_check") or "").startswith("not corrected"):
        what = CHECK
    return ReportCase(entry, what, expected)


def _place(case: ReportCase) -> tuple[int, float, int]:
    """Where a case stands: what needs a person first, and the worst first."""
    return ORDER.index(case.what), _ranking(case.entry.get("quality") or ()), case.entry["number"]


def _ranking(quality: Sequence[Mapping[str, Any]]) -> float:
    """The mean over structures of what masks are sorted by. Records of before there was a ranking go by the lower ends."""
    return sum(one.get("ranking", one["low"]) for one in quality) / max(len(quality), 1)


def _on_page(case: ReportCase, pictures: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    """What the template shows of one case."""
    entry = case.entry
    return {
        "number": entry["number"],
        "name": case.name,
        "what": case.what,
        "tone": _TONES.get(case.what, "look"),
        "expected": case.expected_words,
        "low": case.expected["low"] if case.expected else -1,
        "status": entry["status"],
        "seconds": entry["seconds"],
        "in_words": entry["in_words"],
        "notes": [*entry["notes"], *([entry["labels_note"]] if entry["labels_note"] else [])],
        "input_check": entry.get("input_check"),
        "restarted": entry.get("restarted"),
        "quality": quality_rows(entry),
        "quality_note": entry.get("quality_note"),
        "labels": label_rows(entry),
        "facts": {name: entry[name] for name in ("method", "n_windows", "weight_distance", "seed", "precision") if name in entry},
        "curves": [_drawn(curve) for curve in step_curves(entry.get("steps") or ())],
        "pictures": [{"caption": caption, "image": embedded(png)} for caption, png in pictures],
    }


def _drawn(curve: Curve) -> dict[str, Any]:
    return {"name": curve.name, "points": curve.points(), "first": f"{curve.values[0]:.4g}", "last": f"{curve.values[-1]:.4g}"}
