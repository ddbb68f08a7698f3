"""The results of streams: a table for each kind of stream, and a plot of the running mean."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

from monai_tta.reporting.number_format import signed
from monai_tta.reporting.significance import HARM, mean_of_numbers
from monai_tta.reporting.stream_rows import BACK, StreamRow

RUNNING = 20  # how many cases are averaged into one value of the running mean


def changes(rows: Sequence[StreamRow]) -> list[tuple[StreamRow, float]]:
    """Each row with the change of its mean Dice against Source's answer to the same case, in points.

    Rows without a Dice are left out.

    Raises:
        ValueError: when Source is not among the rows.
    """
    source = {(r.domain, r.case): mean_of_numbers(r.dice) for r in rows if r.contender == "Source"}
    if not source:
        raise ValueError("changes are measured against Source, but no row is of Source")
    found = ((r, 100 * (mean_of_numbers(r.dice) - source[r.domain, r.case])) for r in rows)
    return [(row, change) for row, change in found if not isnan(change)]


def stream_markdown(rows: Sequence[StreamRow]) -> str:
    """A Markdown table for each kind of stream.

    Changes are in points of Dice against Source. *order* is the largest difference between the means of two orders of the same
    cases. *harmed* is the share of answers that lost more than one point. *restarted* is how often a stream restarted, and
    *refused* the share of unadapted answers, where the contender adapts at all.
    """
    lines: list[str] = []
    known = changes(rows)
    rounds = sorted({r.round for r in rows} - {BACK})
    for kind in dict.fromkeys(r.kind for r in rows):
        here = [(r, c) for r, c in known if r.kind == kind]
        streams = len({r.order for r, _ in here})
        cases = len({r.position for r, _ in here})
        lines += [f"\n**{kind}** ({streams} {'order' if streams == 1 else 'orders'} of {cases} cases)\n"]
        heads = [*(f"round {k}" for k in rounds), "back at the source", "order", "harmed", "worst case", "restarted", "refused"]
        lines += [f"| contender | {' | '.join(heads)} | s / case |", "|" + "---|" * (len(heads) + 2)]
        for name in dict.fromkeys(r.contender for r, _ in here):
            own = [(r, c) for r, c in here if r.contender == name]
            cells = [signed(mean_of_numbers(c for r, c in own if r.round == k)) for k in (*rounds, BACK)]
            means = [fmean(c for r, c in own if r.order == order) for order in dict.fromkeys(r.order for r, _ in own)]
            cells += [f"{max(means) - min(means):.1f}", f"{fmean(c < -100 * HARM for _, c in own):.0%}"]
            cells += [signed(min(c for _, c in own)), f"{sum(r.restarted is not None for r, _ in own) / streams:.1f}"]
            refused = "" if name == "Source" else f"{fmean(r.reason is not None for r, _ in own):.0%}"
            cells += [refused, f"{fmean(r.seconds for r, _ in own):.2f}"]
            lines += [f"| {name} | {' | '.join(cells)} |"]
    return "\n".join(lines) + "\n"


def running(values: Sequence[float], size: int = RUNNING) -> list[float]:
    """At each place, the mean of the last ``size`` values; of fewer at the beginning."""
    return [fmean(values[max(0, k + 1 - size) : k + 1]) for k in range(len(values))]


def plot_streams(rows: Sequence[StreamRow], path: Path) -> None:
    """Draw the running mean change along the streams.

    There is a panel for each kind of stream, a thin line for each order, and a thick line for the mean of the orders.

    Args:
        rows: of all contenders, Source included.
        path: the file to write; its suffix chooses the format.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the plot needs matplotlib: pip install 'monai-tta[report]'") from error
    known = changes(rows)
    kinds = list(dict.fromkeys(r.kind for r in rows))
    figure = Figure(figsize=(9, 3.6 * len(kinds)), layout="constrained")
    for axes, kind in zip(figure.subplots(len(kinds), 1, squeeze=False)[:, 0], kinds, strict=True):
        here = [(r, c) for r, c in known if r.kind == kind]
        for number, name in enumerate(n for n in dict.fromkeys(r.contender for r, _ in here) if n != "Source"):
            own = [(r, c) for r, c in here if r.contender == name]
            curves = [
                dict(zip([r.position for r, _ in some], running([c for _, c in some]), strict=True))
                for some in ([(r, c) for r, c in own if r.order == o] for o in dict.fromkeys(r.order for r, _ in own))
            ]
            for curve in curves:
                axes.plot(list(curve), list(curve.values()), color=f"C{number}", alpha=0.25, linewidth=0.8)
            places = sorted(set.intersection(*(set(curve) for curve in curves)))
            axes.plot(places, [fmean(curve[p] for curve in curves) for p in places], color=f"C{number}", label=name)
        for first in {min(r.position for r, _ in here if r.round == k) for k in {r.round for r, _ in here}} - {0}:
            axes.axvline(first - 0.5, color="grey", linestyle=":", linewidth=0.8)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(
            title=f"domains {kind}", ylabel="change of Dice (points)", xlabel=f"case of the stream (mean of the last {RUNNING})"
        )
    axes.legend(fontsize=7, ncols=3)
    figure.savefig(path)
