"""What became of contenders along streams: a table, and a plot of the running mean."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean

from monai_tta.reporting.significance import HARM
from monai_tta.reporting.stream_rows import BACK, StreamRow

RUNNING = 20  # so many cases make a point of the running mean


def _mean(dice: Sequence[float]) -> float:
    """The mean of those that are numbers (a label that is not in an image has no Dice); NaN when none is."""
    numbers = [d for d in dice if not isnan(d)]
    return fmean(numbers) if numbers else nan


def changes(rows: Sequence[StreamRow]) -> list[tuple[StreamRow, float]]:
    """Each row with the change of its mean Dice against Source's answer to the same case, in points; rows without a Dice are
    left out.

    Raises:
        ValueError: when Source is not among the rows.
    """
    source = {(r.domain, r.case): _mean(r.dice) for r in rows if r.contender == "Source"}
    if not source:
        raise ValueError("changes are measured against Source, of which there is no row")
    found = ((r, 100 * (_mean(r.dice) - source[r.domain, r.case])) for r in rows)
    return [(row, change) for row, change in found if not isnan(change)]


def stream_markdown(rows: Sequence[StreamRow]) -> str:
    """A table for each kind of stream.

    Change is in points of Dice against Source; *order* is the largest difference between the means of two orders of the same
    cases; *harmed* the share of answers that lost more than a point; *reborn* how often a stream was begun anew, per stream.
    """
    lines: list[str] = []
    known = changes(rows)
    rounds = sorted({r.round for r in rows} - {BACK})
    for kind in dict.fromkeys(r.kind for r in rows):
        here = [(r, c) for r, c in known if r.kind == kind]
        streams = len({r.order for r, _ in here})
        stops = len({r.position for r, _ in here})
        lines += [f"\n**{kind}** ({streams} {'order' if streams == 1 else 'orders'} of {stops} stops)\n"]
        heads = [*(f"round {k}" for k in rounds), "back at the source", "order", "harmed", "worst case", "reborn", "refused"]
        lines += [f"| contender | {' | '.join(heads)} | s / case |", "|" + "---|" * (len(heads) + 2)]
        for name in dict.fromkeys(r.contender for r, _ in here):
            own = [(r, c) for r, c in here if r.contender == name]
            cells = [_points([c for r, c in own if r.round == k]) for k in (*rounds, BACK)]
            means = [fmean(c for r, c in own if r.order == order) for order in dict.fromkeys(r.order for r, _ in own)]
            cells += [f"{max(means) - min(means):.1f}", f"{fmean(c < -100 * HARM for _, c in own):.0%}"]
            cells += [_points([min(c for _, c in own)]), f"{sum(r.restarted is not None for r, _ in own) / streams:.1f}"]
            cells += [f"{fmean(r.reason is not None for r, _ in own):.0%}", f"{fmean(r.seconds for r, _ in own):.2f}"]
            lines += [f"| {name} | {' | '.join(cells)} |"]
    return "\n".join(lines) + "\n"


def _points(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{fmean(values):+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def running(values: Sequence[float], size: int = RUNNING) -> list[float]:
    """The mean of the last ``size`` values at each place, of fewer at the beginning."""
    return [fmean(values[max(0, k + 1 - size) : k + 1]) for k in range(len(values))]


def plot_streams(rows: Sequence[StreamRow], path: Path) -> None:
    """Draw the running mean change along the streams: a panel for each kind, a thin line for each order, a thick one for their
    mean.

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
