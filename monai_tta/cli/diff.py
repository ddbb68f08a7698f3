"""`monai-tta diff`: two runs over the same images, compared case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import EXIT_CODES, AsJson, help_end
from monai_tta.cli.recorded_run import read_records
from monai_tta.reporting.number_format import two_digits

if TYPE_CHECKING:
    from monai_tta.evaluation.mask_differences import MaskDifferences
    from monai_tta.evaluation.run_differences import CaseDifferences, Fact, Record

HELP = """Compare two runs over the same images, case by case.

On top stands what was chosen otherwise, and which versions differ. Then a
row for each case, the most different first: Dice between the two masks for
each label that differs, how many voxels differ, volumes, which answer was
given and why, the expected Dice, and the seconds. Masks on different grids
are named, and not compared.

Cases are matched by their names, so the records must name them.
"""
HELP_END = help_end(
    "monai-tta diff MASKS1 MASKS2",
    "monai-tta diff MASKS1 MASKS2 --json",
    codes=(0, 1, 2, 3),
    meanings=EXIT_CODES | {0: "all masks are the same", 1: "some masks differ", 3: "a mask could not be read"},
)
COLUMNS = ("case", "Dice between the masks", "voxels that differ", "volumes", "answer", "expected Dice", "seconds")


def diff(
    first: Annotated[Path, typer.Argument(metavar="OUT1", help="the --out folder of a `monai-tta run`")],
    second: Annotated[Path, typer.Argument(metavar="OUT2", help="that of another run")],
    as_json: AsJson = False,
) -> None:
    """Compare two runs over the same images, case by case."""
    with report_errors():
        documents = [read_records(folder) for folder in (first, second)]

        from monai_tta.evaluation.run_differences import compare_runs, facts_to_dict, run_facts

        cases = compare_runs((first, second), documents)
        facts = run_facts(*documents)
    if as_json:
        print_json(
            {"same": all(case.same for case in cases), "runs": facts_to_dict(facts), "cases": [c.to_dict() for c in cases]}
        )
    else:
        print_facts(facts, (str(first), str(second)), "the runs differ in")
        print_table(COLUMNS, [_row(case) for case in cases])
        print_line(_in_words(cases))
    if any(case.failed for case in cases):
        raise typer.Exit(3)
    if not all(case.same for case in cases):
        raise typer.Exit(1)


def print_facts(facts: Sequence[Fact], places: Sequence[str], title: str) -> None:
    """Print what two records say otherwise, where there is anything.

    Args:
        facts: what it is, and what each of them says.
        places: what the two are called.
        title: of the table.
    """
    if facts:
        print_table(("", *places), [(what, _text(one), _text(two)) for what, one, two in facts], title)


def words_on_dice(masks: MaskDifferences) -> str:
    """The Dice between two masks, for each label that differs; "the same" where the masks are."""
    if masks.same:
        return "the same"
    # one voxel of many must not look like a Dice of 1
    below = [(label.name, f"{min(label.dice, 0.9999):.4f}") for label in masks.labels if label.dice < 1]
    return ", ".join(f"{name} {dice}" for name, dice in below) or "; ".join(masks.notes) or "1, but for rounding"


def words_on_volumes(masks: MaskDifferences) -> str:
    """How much of each label the two masks hold, where that differs."""
    changed = [label for label in masks.labels if label.amounts[0] != label.amounts[1]]
    return ", ".join(f"{label.name} {_change(*label.amounts)} {label.unit}" for label in changed) or "the same"


def _row(case: CaseDifferences) -> tuple[str, ...]:
    one, two = case.cases
    masks = case.masks
    figures = ("-", "-") if masks is None else (f"{masks.n_different} of {masks.n_voxels}", words_on_volumes(masks))
    return (
        case.name,
        case.why or ("" if masks is None else words_on_dice(masks)),
        *figures,
        _both(_answer(one), _answer(two)),
        _both(_expected(one), _expected(two)),
        _both(_seconds(one), _seconds(two)),
    )


def _in_words(cases: Sequence[CaseDifferences]) -> str:
    same = sum(case.same for case in cases)
    others = [case.name for case in cases if case.cases[0] and case.cases[1] and _of_other_image(case)]
    warning = f"; another image of the same name: {', '.join(others)}" if others else ""
    return f"{same} of {len(cases)} cases have the same masks{warning}"


def _of_other_image(case: CaseDifferences) -> bool:
    return any(what == "image_hash" and isinstance(one, str) and isinstance(two, str) for what, one, two in case.facts())


def _answer(case: Record | None) -> str:
    if case is None:
        return "-"
    why = case["reason"] or case["error"]
    return f"{case['status']}: {why}" if why else str(case["status"])


def _expected(case: Record | None) -> str:
    found: Sequence[Mapping[str, Any]] = (case or {}).get("quality") or ()
    return ", ".join(f"{one['name'] or one['structure']} {two_digits(one['dice'])}" for one in found) or "-"


def _seconds(case: Record | None) -> str:
    return "-" if case is None or case["seconds"] is None else f"{case['seconds']:.1f}"


def _both(one: str, two: str) -> str:
    return one if one == two else f"{one} / {two}"


def _change(one: float, two: float) -> str:
    return f"{one:.6g} / {two:.6g}"


def _text(value: Any) -> str:
    return "-" if value in ("", None) else str(value)
