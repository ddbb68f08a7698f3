"""Risk-coverage curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_tta.reporting.plots import styles
from monai_tta.reporting.trust_tables import TrustTable


def risk_coverage(tables: Sequence[TrustTable]) -> Figure:
    """A panel for each kind of answer, with a curve for each signal, the best possible order in black, and chance dotted.

    Args:
        tables: of one checkpoint and one domain, one for each kind of answer.
    """
    figure = Figure(figsize=(1.0 + 5.2 * len(tables), 4.8), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(line.signal for table in tables for line in table.lines))
    style_of = dict(zip(names, styles(), strict=False))
    for panel, table in zip(panels, tables, strict=True):
        _draw(panel, table)
        for line in table.lines:
            coverage, risk = zip(*line.curve, strict=True)
            panel.plot(coverage, risk, label=line.signal, linewidth=1.3, **style_of[line.signal])
    panels[0].set_ylabel("risk: 1 - mean Dice of the accepted")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(f"{tables[0].checkpoint}, {tables[0].domain}", fontsize=9)
    return figure


def _draw(panel: Axes, table: TrustTable) -> None:
    """The best order and chance, between which the signals should lie."""
    coverage, risk = zip(*table.ideal_curve, strict=True)
    panel.plot(coverage, risk, color="black", linewidth=1.6, label="best possible order")
    panel.axhline(1 - table.mean_dice, color="black", linestyle=":", linewidth=1.0, label="chance")
    panel.set_title(f"{table.answer} ({table.cases} cases)", fontsize=9)
    panel.set_xlabel("coverage: share accepted")
    panel.set_xlim(0, 1)
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
