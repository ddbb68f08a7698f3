"""Tables of a comparison as rows of cells, as Markdown, and raw rows as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from io import StringIO
from math import isnan, nan
from typing import Any, NamedTuple

from monai_tta.reporting.number_format import counted, decimal, p_value, percent, signed
from monai_tta.reporting.rows import METRICS, Row
from monai_tta.reporting.significance import HARM
from monai_tta.reporting.summary import SOURCE, Line, Table

ABOUT = (
    "A point is a hundredth of Dice. Mean change is the mean over cases of the change of the mean Dice against Source, the "
    "network without adaptation, with a 95 % bootstrap interval over cases. Harmed is the number of cases that lost more than "
    "one point. Worst case is the largest loss, or the smallest gain where no case lost. Worst tenth is the mean change of the "
    "worst tenth of the cases. p is from Wilcoxon's signed-rank test, corrected by Holm's method for the contenders of a table."
)


class TableCell(NamedTuple):
    """A cell's text, and a colour: "gain", "same" or "loss" against Source; "" for none."""

    text: str
    tone: str = ""


Grid = list[list[TableCell]]  # the heads first


def tone_of(change: float) -> str:
    """The colour of a change of Dice: "gain" or "loss" where it is more than one point, else "same"; "" for NaN."""
    if isnan(change):
        return ""
    return "gain" if change > HARM else "loss" if change < -HARM else "same"


def _interval(line: Line) -> str:
    low, high = line.interval
    return "-" if isnan(low) else f"{signed(100 * low)} to {signed(100 * high)}"


def change_cell(change: float, contender: str) -> TableCell:
    """A change of Dice in points, coloured unless it is Source's own."""
    return TableCell(signed(100 * change), "" if contender == SOURCE else tone_of(change))


def _harm(line: Line) -> TableCell:
    tone = "" if line.contender == SOURCE or not line.pairs else "loss" if line.harmed_cases else "same"
    return TableCell(counted(line.harmed_cases, len(line.pairs)), tone)


def key_cells(table: Table) -> Grid:
    """The figures that decide: mean change with its interval, cases harmed, worst case, and the level of Dice."""
    heads = ["contender", "mean change (points)", "95 % interval", "harmed", "worst case (points)", "mean Dice"]
    rows = [
        [
            TableCell(line.contender),
            change_cell(line.change, line.contender),
            TableCell(_interval(line)),
            _harm(line),
            change_cell(line.worst, line.contender),
            TableCell(decimal(line.quality)),
        ]
        for line in table.lines
    ]
    return [[TableCell(head) for head in heads], *rows]


def detail_cells(table: Table, settings: Mapping[str, Any]) -> Grid:
    """All other figures: p, the worst tenth, Dice per label, NSD and distances, time, memory and passes of the network.

    Args:
        table: of `monai_tta.reporting.summary.tables_of`.
        settings: of the rows' file; "labels", "metrics" and "unit" are used.
    """
    count = max(len(line.dice) for line in table.lines)
    names = settings.get("labels") or ()
    labels = names if len(names) == count else range(1, count + 1)
    columns: list[tuple[str, Callable[[Line], str]]] = [
        ("contender", lambda line: line.contender),
        ("p", lambda line: p_value(line.p)),
        ("worst tenth (points)", lambda line: signed(100 * line.tail)),
    ]
    if table.seeds > 1:
        columns.append(("between seeds (points)", lambda line: decimal(100 * line.spread, ".2f")))
    columns += [(f"Dice {label}", partial(_dice, place=place)) for place, label in enumerate(labels)]
    metrics = [metric for metric in settings.get("metrics", METRICS) if metric != "dice"]
    columns += [(_head(metric, settings.get("unit", "mm")), partial(_metric, metric=metric)) for metric in metrics]
    plain = next((line.seconds for line in table.lines if line.contender == SOURCE), nan)
    columns.append(("s / case", lambda line: decimal(line.seconds, ".2f")))
    columns.append(("x Source", lambda line: decimal(line.seconds / plain if plain else nan, ".1f")))
    columns.append(("MiB", lambda line: decimal(line.memory, ".0f")))
    columns.append(("windows forward", lambda line: decimal(line.forwards, ".0f")))
    columns.append(("windows backward", lambda line: decimal(line.backwards, ".0f")))
    rows = [[TableCell(text(line)) for _, text in columns] for line in table.lines]
    return [[TableCell(head) for head, _ in columns], *rows]


def _head(metric: str, unit: str) -> str:
    return metric.upper() if metric == "nsd" else f"{metric.upper()} ({unit})"


def _dice(line: Line, place: int) -> str:
    return decimal(line.dice[place]) if place < len(line.dice) else "-"


def _metric(line: Line, metric: str) -> str:
    return decimal(getattr(line, metric), ".3f" if metric == "nsd" else ".2f")


def group_cells(table: Table) -> Grid:
    """The mean change of each group of cases, in points; nothing where there are fewer than two groups."""
    words = sorted({word for line in table.lines for word in line.groups})
    rows = [
        [TableCell(line.contender), *(change_cell(line.groups.get(word, nan), line.contender) for word in words)]
        for line in table.lines
    ]
    heads = ["mean change (points) in group", *words]
    return [[TableCell(head) for head in heads], *rows] if len(words) > 1 else []


def in_parts(grid: Grid, most: int = 9) -> list[Grid]:
    """A wide table as several, each with the first column and at most ``most`` others."""
    width = len(grid[0]) - 1 if grid else 0
    count = -(-width // most)
    size = -(-width // count) if count else 0  # of about the same width
    return [[[row[0], *row[1 + k * size : 1 + (k + 1) * size]] for row in grid] for k in range(count)]


def notes(table: Table) -> list[str]:
    """What the figures do not show: how stable the ranking is, and how many masks or answers were missed, invented, unadapted."""
    sentences = []
    if not isnan(table.ranking.winner):
        agreement = decimal(table.ranking.agreement, ".2f")
        sentences.append(
            f"Ranking by mean Dice: the same contender is first in {percent(table.ranking.winner)} of resamples of the cases; "
            f"Kendall's tau with the ranking of all cases is {agreement} on average."
        )
    for name, words in (
        ("missed", "Missed masks (Dice and NSD 0, no distances)"),
        ("invented", "Invented masks of a label that is not in the image (no score)"),
        ("unadapted", "Unadapted answers"),
    ):
        found = [f"{line.contender} {count}" for line in table.lines if (count := getattr(line, name))]
        sentences += [f"{words}: {'; '.join(found)}."] if found else []
    return sentences


def markdown_table(grid: Grid) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(cell.text.replace('|', chr(92) + '|') for cell in row)} |" for row in grid]
    return "\n".join([lines[0], "|" + "---|" * len(grid[0]), *lines[1:]])


def comma_separated(rows: Sequence[Row]) -> str:
    """Raw rows as CSV, a line per case and label."""
    text = StringIO()
    writer: Any = None
    for row in rows:
        rest = {k: v for k, v in asdict(row).items() if k not in ("key", "scores", "reason", "signals")}
        for label, score in enumerate(row.scores, 1):
            found = {m: ("" if isnan(getattr(score, m)) else f"{getattr(score, m):.6f}") for m in METRICS}
            line = asdict(row.key) | rest | {"label": label} | found | {"no_score": score.reason, "unadapted": row.reason}
            if writer is None:
                writer = csv.DictWriter(text, list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow(line)
    return text.getvalue()
