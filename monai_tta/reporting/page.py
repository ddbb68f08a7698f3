"""The HTML page of a comparison. It needs no other file, and asks for nothing on the net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_tta.reporting.conclusion import conclusions
from monai_tta.reporting.example_cases import ExampleCase
from monai_tta.reporting.overview import overviews
from monai_tta.reporting.summary import Table, budget_words, title
from monai_tta.reporting.tables import ABOUT, detail_cells, group_cells, in_parts, key_cells, notes
from monai_tta.reporting.templates import date_of, embedded, fill_template


@dataclass(frozen=True)
class Plot:
    """A plot on a page: its file's name, what it shows, a PNG's content, and the table that it belongs to (None: several)."""

    name: str
    caption: str
    png: bytes
    table: Table | None = None


@dataclass(frozen=True)
class Picture:
    """An example case on a page, and a PNG's content."""

    example: ExampleCase
    png: bytes


def page(
    tables: Sequence[Table],
    settings: Mapping[str, Any],
    plots: Sequence[Plot] = (),
    pictures: Sequence[Picture] = (),
    seeds: Sequence[int] = (),
) -> str:
    """The page with the conclusion, all tables, plots and example cases.

    Args:
        tables: of `monai_tta.reporting.summary.tables_of`.
        settings: of the rows' file.
        plots: of any of the tables, or of several.
        pictures: of cases of the tables.
        seeds: of the rows.
    """
    return fill_template(
        "tables.html",
        settings,
        _facts(tables, settings, seeds),
        heading=f"Comparison on {settings.get('bundle', 'a bundle')}",
        conclusions=conclusions(tables),
        about=ABOUT,
        overviews=[{"title": overview.title, "parts": in_parts(overview.grid)} for overview in overviews(tables)],
        sections=[_section(table, settings, plots, pictures) for table in tables],
        plots=[_plot(plot) for plot in plots if plot.table is None],
        holds_pixels=bool(pictures),
    )


def _section(table: Table, settings: Mapping[str, Any], plots: Sequence[Plot], pictures: Sequence[Picture]) -> dict[str, Any]:
    """What the template shows of one table."""
    own = [picture for picture in pictures if picture.example.place == table.place]
    names = dict.fromkeys(picture.example.key.contender for picture in own)
    examples = {name: [_example(picture) for picture in own if picture.example.key.contender == name] for name in names}
    return {
        "title": title(table),
        "key": key_cells(table),
        "details": in_parts(detail_cells(table, settings)),
        "groups": in_parts(group_cells(table)),
        "notes": notes(table),
        "plots": [_plot(plot) for plot in plots if plot.table is not None and plot.table.place == table.place],
        "examples": examples,
    }


def _facts(tables: Sequence[Table], settings: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, str]:
    """How the rows were made, in the order of importance."""
    budgets = [budget_words(budget) for budget in dict.fromkeys(table.budget for table in tables)]
    return {
        **date_of(settings),
        f"seed{'s' * (len(seeds) > 1)}": ", ".join(map(str, seeds)) or "not recorded",
        "budget": ", ".join(budgets),
        "precision": str(settings.get("precision", "not recorded")),
    }


def _plot(plot: Plot) -> dict[str, str]:
    return {"caption": plot.caption, "image": embedded(plot.png)}


def _example(picture: Picture) -> dict[str, str]:
    return {"caption": picture.example.caption, "image": embedded(picture.png)}
