"""Plots of a comparison: each case from Source to adapted, sorted gains and losses, and the gain over the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import cycle
from math import ceil, isnan
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_tta.reporting.significance import HARM
from monai_tta.reporting.summary import SOURCE, Line, Table, title

GAIN = "#1f6fb4"  # colour-blind readers can tell the three colours apart, too; tables.html names the same
LOSS = "#c44e20"
SAME = "#b5b5b5"
COLUMNS = 5  # of panels, at most


def png(figure: Figure) -> bytes:
    """A figure as a PNG file's content, the same bytes for the same figure."""
    content = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def slopes(table: Table) -> Figure:
    """A panel per contender, with a line per case from its mean Dice by Source to its mean Dice by the contender.

    A line is blue where the case gained more than one point, red where it lost more than one point, else grey.
    """
    lines = _others(table)
    columns = min(COLUMNS, max(3, len(lines)))
    rows = max(1, ceil(len(lines) / columns))
    figure = Figure(figsize=(2.4 * columns, 2.7 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel in panels[len(lines) :]:
        panel.set_axis_off()
    for panel, line in zip(panels, lines, strict=False):
        for before, after in sorted(line.pairs.values(), key=lambda pair: abs(pair[1] - pair[0])):
            change = after - before
            colour = GAIN if change > HARM else LOSS if change < -HARM else SAME
            panel.plot([0, 1], [before, after], color=colour, linewidth=0.9, marker="o", markersize=2.5)
        panel.set_title(_wrapped(line.contender), fontsize=8)
        panel.set_xticks([0, 1], ["Source", "adapted"], fontsize=8)
        panel.set_xlim(-0.25, 1.25)
        panel.tick_params(axis="y", labelsize=8)
    for panel in panels[::columns]:
        panel.set_ylabel("mean Dice of a case", fontsize=8)
    figure.suptitle(title(table), fontsize=9)
    return figure


def harm_and_gain(table: Table) -> Figure:
    """The changes of each contender, sorted: how many cases lose, and how much the others gain."""
    figure, panel = _panel()
    panel.axhspan(-100 * HARM, 100 * HARM, color="#eeeeee", zorder=0)
    panel.axhline(0, color="black", linewidth=0.8)
    for line, style in zip(_others(table), styles(), strict=False):
        changes = sorted(100 * (after - before) for before, after in line.pairs.values())
        places = [100 * (i + 0.5) / len(changes) for i in range(len(changes))]
        panel.plot(places, changes, label=line.contender, marker="o", markersize=2.5, linewidth=1.2, **style)
    panel.set_xlabel("cases, from worst to best (%)")
    panel.set_ylabel("change of the mean Dice (points)")
    panel.set_xlim(0, 100)
    panel.set_title(title(table), fontsize=9)
    return _finished(figure, panel)


def budgets(tables: Sequence[Table]) -> Figure:
    """The mean change over the budget, with 95 % intervals: whether more adaptation windows gain anything.

    Args:
        tables: of one checkpoint and domain, with different budgets.
    """
    figure, panel = _panel()
    ordered = sorted(tables, key=lambda t: (t.budget == 0, t.budget))
    names = dict.fromkeys(line.contender for t in ordered for line in _others(t))
    panel.axhline(0, color="black", linewidth=0.8)
    for place, (name, style) in enumerate(zip(names, styles(), strict=False)):
        aside = 0.3 * ((place + 0.5) / len(names) - 0.5)  # else the intervals would hide each other
        found = [(i + aside, line) for i, t in enumerate(ordered) for line in t.lines if line.contender == name and line.pairs]
        x = [i for i, _ in found]
        y = [100 * line.change for _, line in found]
        ends = [[100 * abs(line.change - e) for _, line in found for e in [line.interval[k]]] for k in (0, 1)]
        ends = [[0.0 if isnan(e) else e for e in side] for side in ends]
        panel.errorbar(x, y, yerr=ends, label=name, capsize=2, marker="o", markersize=3, linewidth=1.2, **style)
    panel.set_xticks(range(len(ordered)), [str(t.budget) if t.budget else "all" for t in ordered])
    panel.set_xlabel("adaptation windows per volume")
    panel.set_ylabel("mean change of the mean Dice (points)")
    panel.set_title(f"{tables[0].checkpoint}, {tables[0].domain} ({tables[0].cases} cases)", fontsize=9)
    return _finished(figure, panel)


def _others(table: Table) -> list[Line]:
    return [line for line in table.lines if line.contender != SOURCE and line.pairs]


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    return figure, figure.subplots()


def _finished(figure: Figure, panel: Axes) -> Figure:
    """Add the grid, and the names beside the panel, where they hide nothing."""
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return figure


def styles() -> Iterator[dict[str, Any]]:
    """Forty styles that differ in colour (matplotlib's tab10) or dashes; then the same again."""
    colours = matplotlib.color_sequences["tab10"]
    return cycle([{"color": colour, "linestyle": dash} for dash in ("-", "--", ":", "-.") for colour in colours])


def _wrapped(label: str) -> str:
    """Broken into lines at commas."""
    return label.replace(", ", ",\n")
