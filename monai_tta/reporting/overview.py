"""All domains of a comparison in one table: what each contender gained, harmed and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from monai_tta.reporting.number_format import counted, decimal
from monai_tta.reporting.significance import worst_tail
from monai_tta.reporting.summary import SOURCE, Line, Table, budget_words
from monai_tta.reporting.tables import Grid, TableCell, change_cell


@dataclass(frozen=True)
class Overview:
    """The tables of one checkpoint with one budget, as one.

    Args:
        title: which checkpoint and budget.
        grid: a row for each contender.
    """

    title: str
    grid: Grid


def overviews(tables: Sequence[Table]) -> list[Overview]:
    """An overview for each checkpoint and budget that has several domains.

    Args:
        tables: of `monai_tta.reporting.summary.tables_of`.
    """
    found = []
    for checkpoint, budget in dict.fromkeys((table.checkpoint, table.budget) for table in tables):
        own = [table for table in tables if (table.checkpoint, table.budget) == (checkpoint, budget)]
        if len(own) > 1:
            found.append(Overview(f"{checkpoint}, all domains, {budget_words(budget)}", _grid(own)))
    return found


def _grid(tables: Sequence[Table]) -> Grid:
    heads = ["mean change (points)", *(f"{table.domain} ({table.cases})" for table in tables)]
    heads += ["harmed", "worst case", "worst tenth", "x Source", "windows forward", "windows backward"]
    names = dict.fromkeys(line.contender for table in tables for line in table.lines)
    return [[TableCell(head) for head in heads], *(_row(name, tables) for name in names)]


def _row(name: str, tables: Sequence[Table]) -> list[TableCell]:
    by_domain = {table.domain: line for table in tables for line in table.lines if line.contender == name}
    lines = list(by_domain.values())
    plain = [line for table in tables for line in table.lines if line.contender == SOURCE and table.domain in by_domain]
    changes = [after - before for line in lines for before, after in line.pairs.values()]
    harmed = sum(line.harmed_cases for line in lines)
    return [
        TableCell(name),
        *(change_cell(by_domain[t.domain].change if t.domain in by_domain else nan, name) for t in tables),
        TableCell(counted(harmed, len(changes)), "" if name == SOURCE else "loss" if harmed else "same"),
        change_cell(min(changes, default=nan), name),
        change_cell(worst_tail(changes), name),
        TableCell(decimal(_per_case("seconds", lines) / (_per_case("seconds", plain) or nan), ".1f")),
        TableCell(decimal(_per_case("forwards", lines), ".0f")),
        TableCell(decimal(_per_case("backwards", lines), ".0f")),
    ]


def _per_case(figure: str, lines: Sequence[Line]) -> float:
    """The mean of a figure over the cases of all domains; NaN where some domain lacks it."""
    cases = sum(len(line.pairs) for line in lines)
    return sum(getattr(line, figure) * len(line.pairs) for line in lines) / cases if cases else nan
