"""Rows of a comparison, and the tables made of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean

HARM = 0.01  # a case is harmed when it loses more than one point of Dice


@dataclass(frozen=True)
class Row:
    """One case answered by one contender: Dice per label in [0, 1], seconds."""

    checkpoint: str
    domain: str
    contender: str
    case: int
    dice: tuple[float, ...]
    seconds: float
    reason: str | None


def mean_of_numbers(values: Sequence[float]) -> float:
    """The mean of those that are numbers (a label that is not in an image has no Dice); NaN when none is."""
    numbers = [v for v in values if not isnan(v)]
    return fmean(numbers) if numbers else nan


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Raw rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) | {"dice": " ".join(f"{d:.6f}" for d in row.dice)} for row in rows)


def _points(change: float) -> str:
    """A change of Dice in points, with its sign where it has one at this precision."""
    return f"{100 * change:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def _share(value: float) -> str:
    """A Dice in [0, 1], or a dash where a label is in no image."""
    return "-" if isnan(value) else f"{value:.3f}"


def markdown(rows: Sequence[Row], labels: Sequence[str] = ()) -> str:
    """One table per checkpoint and domain.

    Args:
        rows: those of a comparison.
        labels: names of the labels; "Dice 1" and so on unless given for each.
    """
    lines = []
    for key in dict.fromkeys((r.checkpoint, r.domain) for r in rows):
        here = [r for r in rows if (r.checkpoint, r.domain) == key]
        source = {r.case: mean_of_numbers(r.dice) for r in here if r.contender == "Source"}
        count = len(here[0].dice)
        named = [f"Dice {name}" for name in (labels if len(labels) == count else range(1, count + 1))]
        lines += [f"\n**{key[0]}, {key[1]}** ({len(source)} {'case' if len(source) == 1 else 'cases'})\n"]
        lines += [f"| method | {' | '.join(named)} | change (points) | harmed | worst case (points) | s / case |"]
        lines += ["|" + "---|" * (count + 5)]
        for name in dict.fromkeys(r.contender for r in here):
            own = [r for r in here if r.contender == name]
            change = [mean_of_numbers(r.dice) - source[r.case] for r in own]
            means = " | ".join(_share(mean_of_numbers([r.dice[k] for r in own])) for k in range(count))
            harmed = fmean(c < -HARM for c in change)
            times = fmean(r.seconds for r in own)
            figures = f"{_points(fmean(change))} | {harmed:.0%} | {_points(min(change))} | {times:.2f}"
            lines += [f"| {name} | {means} | {figures} |"]
    return "\n".join(lines) + "\n"
