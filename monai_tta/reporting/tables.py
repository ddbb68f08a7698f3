"""Tables of a comparison as Markdown, as one HTML page that needs nothing else, and raw rows as CSV."""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from io import StringIO
from math import isnan
from string import Template
from typing import Any

from monai_tta.reporting.rows import METRICS, Row
from monai_tta.reporting.summary import Table, title

ABOUT = (
    "Change is the mean over cases of the change of the mean Dice against Source, in points (hundredths), with a 95 % bootstrap "
    "interval over cases; p is Wilcoxon's signed-rank test, corrected for the rows of its table by Holm's method; harmed is the "
    "share of cases that lost more than one point; worst tenth is the mean change of the tenth of the cases that fared worst."
)


def _points(change: float) -> str:
    """A change of Dice in points, with its sign where it has one at this precision."""
    return "-" if isnan(change) else f"{100 * change:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def _figure(value: float, form: str = ".3f") -> str:
    """A number, or a dash where there is none."""
    return "-" if isnan(value) else format(value, form)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else _figure(value)


def cells(table: Table, settings: Mapping[str, Any]) -> list[list[str]]:
    """A table's cells as text, the heads first.

    Args:
        table: of `monai_tta.reporting.summary.tables_of`.
        settings: of the rows' file; "labels", "metrics" and "unit" are used.
    """
    count = max(len(line.dice) for line in table.lines)
    named = settings.get("labels") or ()
    unit, metrics = settings.get("unit", "mm"), settings.get("metrics", METRICS)
    columns = [f"Dice {n}" for n in (named if len(named) == count else range(1, count + 1))]
    heads = ["method", *columns, *(_head(m, unit) for m in metrics if m != "dice"), "change (points)", "95 % interval", "p"]
    heads += ["harmed", "worst tenth (points)", "worst case (points)"]
    heads += ["between seeds (points)"] if table.seeds > 1 else []
    rows = [[*heads, "s / case", "MiB"]]
    for line in table.lines:
        more = [_figure(getattr(line, m), ".3f" if m == "nsd" else ".2f") for m in metrics if m != "dice"]
        between = "-" if isnan(line.interval[0]) else f"{_points(line.interval[0])} to {_points(line.interval[1])}"
        row = [line.contender, *map(_figure, line.dice), *more, _points(line.change), between, _p(line.p)]
        row += [_figure(line.harmed, ".0%"), _points(line.tail), _points(line.worst)]
        row += [_figure(100 * line.spread, ".2f")] if table.seeds > 1 else []
        rows.append([*row, _figure(line.seconds, ".2f"), _figure(line.memory, ".0f")])
    return rows


def _head(metric: str, unit: str) -> str:
    return metric.upper() if metric == "nsd" else f"{metric.upper()} ({unit})"


def group_cells(table: Table) -> list[list[str]]:
    """The mean change of each group of cases, in points; nothing where there are not two groups."""
    words = sorted({word for line in table.lines for word in line.groups})
    rows = [[line.contender, *(_points(line.groups.get(word, float("nan"))) for word in words)] for line in table.lines]
    return [["change (points) in group", *words], *rows] if len(words) > 1 else []


def notes(table: Table) -> list[str]:
    """What the figures of a table don't show: how stable its ranking is, what was missed, invented or not adapted to."""
    said = []
    if not isnan(table.ranking.winner):
        agreement = _figure(table.ranking.agreement, ".2f")
        said.append(
            f"Ranking by mean Dice: the same first in {table.ranking.winner:.0%} of resamples of the cases; "
            f"Kendall's tau with the ranking of all cases {agreement} on average."
        )
    for word, what in (
        ("missed", "Masks missed (Dice and NSD 0, no distances)"),
        ("invented", "Masks of a label that is not there (no score)"),
        ("plain", "Answered plainly, without adaptation"),
    ):
        found = [f"{line.contender} {count}" for line in table.lines if (count := getattr(line, word))]
        said += [f"{what}: {'; '.join(found)}."] if found else []
    return said


def markdown(tables: Sequence[Table], settings: Mapping[str, Any]) -> str:
    """All tables, each with its notes."""

    def lines(rows: list[list[str]]) -> list[str]:
        safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        made = [f"| {' | '.join(row)} |" for row in safe]
        return [made[0], "|" + "---|" * len(rows[0]), *made[1:]]

    said = [ABOUT, ""]
    for table in tables:
        said += [f"**{title(table)}**", "", *lines(cells(table, settings)), ""]
        if groups := group_cells(table):
            said += [*lines(groups), ""]
        said += [line for note in notes(table) for line in (note, "")]
    return "\n".join(said)


@dataclass(frozen=True)
class Plot:
    """A picture on a page: its file's name, what it shows, a PNG's content, and the table it stands under (None: the end)."""

    name: str
    caption: str
    png: bytes
    table: Table | None = None


def page(tables: Sequence[Table], settings: Mapping[str, Any], plots: Sequence[Plot] = ()) -> str:
    """One HTML page with all tables and plots inside; it asks for nothing else, on the disk or on the net.

    Args:
        tables: of `monai_tta.reporting.summary.tables_of`.
        settings: of the rows' file.
        plots: of any of the tables, or of several.
    """
    parts = []
    for table in tables:
        parts += [f"<h2>{escape(title(table))}</h2>", _html(cells(table, settings)), _html(group_cells(table))]
        parts += [f"<p>{escape(note)}</p>" for note in notes(table)]
        parts += [_picture(plot) for plot in plots if plot.table is not None and _place(plot.table) == _place(table)]
    parts += [_picture(plot) for plot in plots if plot.table is None]
    versions = ", ".join(f"{name} {number}" for name, number in settings.get("versions", {}).items())
    said = [f"{name} {settings[name]}" for name in ("bundle", "begun", "precision") if name in settings]
    footer = "; ".join([*said, versions])
    template = Template(files("monai_tta.reporting").joinpath("tables.html").read_text("utf-8"))
    heading = f"Comparison on {settings.get('bundle', 'a bundle')}"
    filled = {"title": escape(heading), "about": escape(ABOUT), "footer": escape(footer)}
    return template.substitute(filled, body="\n".join(parts))


def _place(table: Table) -> tuple[str, str, int]:
    """Which table it is. Its figures can't be compared: from Python 3.13 on a dataclass with a NaN doesn't equal itself."""
    return table.checkpoint, table.domain, table.budget


def _picture(plot: Plot) -> str:
    data = base64.b64encode(plot.png).decode()
    return f'<h3>{escape(plot.caption)}</h3>\n<img alt="{escape(plot.caption)}" src="data:image/png;base64,{data}">'


def _html(rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head, *rest = ["".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) for tag, row in zip(_tags(rows), rows, strict=True)]
    body = "\n".join(f"<tr>{row}</tr>" for row in rest)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _tags(rows: list[list[str]]) -> list[str]:
    return ["th", *["td"] * (len(rows) - 1)]


def comma_separated(rows: Sequence[Row]) -> str:
    """Raw rows as CSV, a line per case and label."""
    text = StringIO()
    writer: Any = None
    for row in rows:
        rest = {k: v for k, v in asdict(row).items() if k not in ("key", "scores", "reason")}
        for label, score in enumerate(row.scores, 1):
            found = {m: ("" if isnan(getattr(score, m)) else f"{getattr(score, m):.6f}") for m in METRICS}
            line = asdict(row.key) | rest | {"label": label} | found | {"why": score.reason, "answered_plainly": row.reason}
            if writer is None:
                writer = csv.DictWriter(text, list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow(line)
    return text.getvalue()
