"""The page of `monai-tta trust`, and its conclusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_tta.reporting.page import Plot
from monai_tta.reporting.tables import in_parts
from monai_tta.reporting.templates import date_of, embedded, fill_template
from monai_tta.reporting.trust_tables import (
    ABOUT,
    ALL,
    INTERVALS,
    NORMALIZED,
    TrustTable,
    by_answer,
    figure_cells,
    interval_cells,
    overview_cells,
)

MIN_CASES = 10  # fewer say too little


def trust_page(tables: Sequence[TrustTable], settings: Mapping[str, Any], accept: float, plots: Sequence[Plot] = ()) -> str:
    """The page with the conclusion, all tables and plots.

    Args:
        tables: of all answers and domains.
        settings: of the rows' file.
        accept: an answer of less mean Dice has failed.
        plots: of the tables.
    """
    overviews = [
        {"title": f"{checkpoint}, {answer}", "parts": in_parts(overview_cells(own))}
        for (checkpoint, answer), own in by_answer(tables).items()
    ]
    sections = [
        {"title": table.title, "notes": table.notes, "figures": figure_cells(table), "intervals": interval_cells(table)}
        for table in tables
    ]
    return fill_template(
        "trust.html",
        settings,
        date_of(settings) | {"precision": str(settings.get("precision", "not recorded")), "accepted from": f"{accept:g}"},
        heading=f"Trust on {settings.get('bundle', 'a bundle')}",
        conclusions=trust_conclusions(tables),
        about=ABOUT,
        failed=f"An answer has failed when its mean Dice is below {accept:g}.",
        signals={line.signal: line.about for table in tables for line in table.lines},
        overviews=overviews,
        sections=sections,
        intervals=INTERVALS,
        plots=[{"caption": plot.caption, "image": embedded(plot.png)} for plot in plots],
    )


def trust_conclusions(tables: Sequence[TrustTable]) -> list[str]:
    """A sentence for each checkpoint and kind of answer, by a fixed rule (docs/trust.md).

    Args:
        tables: of all answers and domains.
    """
    return [_conclusion(f"{checkpoint}, {answer}", own) for (checkpoint, answer), own in by_answer(tables).items()]


def _conclusion(about: str, tables: Sequence[TrustTable]) -> str:
    """About the signal with the smallest excess over all domains, and on how many it is better than chance by itself."""
    whole = next((table for table in tables if table.domain == ALL), tables[-1])
    known = [line for line in whole.lines if line.figures[NORMALIZED] == line.figures[NORMALIZED]]
    if whole.cases < MIN_CASES or not known:
        return f"{about}: too few cases to conclude ({whole.cases}; at least {MIN_CASES} with different Dice are needed)."
    best = min(known, key=lambda line: line.figures[NORMALIZED])
    low, high = best.intervals[NORMALIZED]
    words = f"{about}: over {whole.cases} cases, {best.signal} ranks best of {len(known)} signals, with an excess of "
    words += f"{best.figures[NORMALIZED]:.2f} ({low:.2f} to {high:.2f}; 0 is ideal, 1 is chance)"
    if not high < 1:
        return f"{words}, which may be chance."
    single = [table for table in tables if table.domain != ALL and table.cases >= MIN_CASES]
    if len(single) < 2:
        return f"{words}."
    sure = [table for table in single if _is_better_than_chance(table, best.signal)]
    return f"{words}. On {len(sure)} of {len(single)} domains it is better than chance by itself."


def _is_better_than_chance(table: TrustTable, signal: str) -> bool:
    return any(line.signal == signal and line.intervals[NORMALIZED][1] < 1 for line in table.lines)
