"""Summarises rows: a table per checkpoint, domain and budget. Each contender is compared with Source, case by case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import isnan, nan
from statistics import fmean, pstdev

from monai_tta.reporting.rows import Row
from monai_tta.reporting.significance import (
    Stability,
    holm,
    mean_interval,
    mean_of_numbers,
    paired_p,
    rank_stability,
    share_harmed,
    worst_tail,
)

SOURCE = "Source"


@dataclass(frozen=True)
class Line:
    """One contender in a table. A figure is NaN where it cannot be computed.

    ``dice`` is the mean per label, in [0, 1], and ``nsd`` in [0, 1]. ``hd95`` and ``assd`` are in the bundle's unit of length.
    ``change`` is the mean change of the mean Dice against Source. ``interval`` is its 95 % interval, and ``spread`` its standard
    deviation over seeds. ``tail`` and ``worst`` are the changes of the worst tenth and of the worst case. All five are in Dice.
    ``p`` is corrected for the number of contenders in the table. ``harmed`` is a share in [0, 1]. ``seconds`` and ``memory``
    (MiB) are means per case, as are ``forwards`` and ``backwards`` (windows). ``pairs`` maps a case's number to its mean Dice by
    Source and by this contender. ``groups`` maps a group of cases to its mean change. ``missed``, ``invented`` and ``unadapted``
    count masks, masks and answers.
    """

    contender: str
    dice: tuple[float, ...]
    nsd: float
    hd95: float
    assd: float
    change: float
    interval: tuple[float, float]
    p: float
    harmed: float
    tail: float
    worst: float
    spread: float
    seconds: float
    memory: float
    forwards: float
    backwards: float
    pairs: dict[int, tuple[float, float]]
    groups: dict[str, float]
    missed: int
    invented: int
    unadapted: int

    @property
    def quality(self) -> float:
        """The mean over cases of the mean Dice by this contender, in [0, 1]; NaN without a case."""
        return mean_of_numbers(after for _, after in self.pairs.values())

    @property
    def harmed_cases(self) -> int:
        """How many cases lost more than one point of Dice."""
        return round(self.harmed * len(self.pairs)) if self.pairs else 0


@dataclass(frozen=True)
class Table:
    """One checkpoint on one domain with one budget.

    ``lines`` are the contenders. ``budget`` is 0 where methods adapt on all windows. ``ranking`` is the ranking by mean Dice.
    """

    checkpoint: str
    domain: str
    budget: int
    cases: int
    seeds: int
    lines: tuple[Line, ...]
    ranking: Stability

    @property
    def place(self) -> tuple[str, str, int]:
        """Which table it is. Tables cannot be compared: from Python 3.13 on, a dataclass with a NaN does not equal itself."""
        return self.checkpoint, self.domain, self.budget


def quality(row: Row) -> float:
    """A row's mean Dice over the labels that are in the image; NaN without any."""
    return mean_of_numbers(score.dice for score in row.scores)


def tables_of(rows: Sequence[Row]) -> list[Table]:
    """One table per checkpoint, domain and budget, in the order of the rows."""

    def place(row: Row) -> tuple[str, str, int]:
        return row.key.checkpoint, row.key.domain, row.key.budget

    places = {p: i for i, p in enumerate(dict.fromkeys(map(place, rows)))}
    ordered = sorted(rows, key=lambda row: places[place(row)])
    return [_table(*where, list(own)) for where, own in groupby(ordered, place)]


def title(table: Table) -> str:
    """What a table is about, in one line."""
    seeds = f", {table.seeds} seeds" if table.seeds > 1 else ""
    return (
        f"{table.checkpoint}, {table.domain}, {budget_words(table.budget)} ({table.cases} case{'s' * (table.cases != 1)}{seeds})"
    )


def budget_words(budget: int) -> str:
    """How many windows of an image a method adapts on, in words; 0 means all."""
    if not budget:
        return "all windows"
    return f"{budget} adaptation window{'s' * (budget != 1)}"


def file_name(*words: str) -> str:
    """A part of a file's name made of words: letters, digits and ``_ . -`` stay, all else becomes a dash."""
    return re.sub(r"[^\w.-]+", "-", "_".join(words))


def _table(checkpoint: str, domain: str, budget: int, rows: list[Row]) -> Table:
    source = {(r.key.seed, r.key.number): quality(r) for r in rows if r.key.contender == SOURCE}
    names = dict.fromkeys(r.key.contender for r in rows)
    lines = [_line(name, [r for r in rows if r.key.contender == name], source) for name in names]
    others = [line for line in lines if line.contender != SOURCE]
    corrected = dict(zip((line.contender for line in others), holm([line.p for line in others]), strict=True))
    lines = [replace(line, p=corrected.get(line.contender, nan)) for line in lines]
    numbers = sorted({r.key.number for r in rows})
    scores = [[line.pairs[n][1] if n in line.pairs else nan for n in numbers] for line in lines]
    seeds = len({r.key.seed for r in rows})
    return Table(checkpoint, domain, budget, len(numbers), seeds, tuple(lines), rank_stability(scores))


def _line(name: str, rows: list[Row], source: dict[tuple[int, int], float]) -> Line:
    """Average over seeds first, then test over cases. Two seeds of one case are not two cases."""
    both = [(r, source[r.key.seed, r.key.number], quality(r)) for r in rows if (r.key.seed, r.key.number) in source]
    both = [(r, before, after) for r, before, after in both if not isnan(before - after)]
    numbers = sorted({r.key.number for r, _, _ in both})
    of = {n: [(before, after) for r, before, after in both if r.key.number == n] for n in numbers}
    pairs = {n: (fmean(b for b, _ in of[n]), fmean(a for _, a in of[n])) for n in numbers}
    changes = [after - before for before, after in pairs.values()]
    by_seed = [fmean(a - b for r, b, a in both if r.key.seed == seed) for seed in sorted({r.key.seed for r, _, _ in both})]
    group_of = {r.key.number: r.group for r in rows}
    words = sorted({g for g in group_of.values() if g is not None})
    own = {w: mean_of_numbers(a - b for n, (b, a) in pairs.items() if group_of[n] == w) for w in words}
    scores = [score for r in rows for score in r.scores]
    labels = range(max(len(r.scores) for r in rows))
    return Line(
        contender=name,
        dice=tuple(mean_of_numbers(r.scores[k].dice for r in rows) for k in labels),
        nsd=mean_of_numbers(score.nsd for score in scores),
        hd95=mean_of_numbers(score.hd95 for score in scores),
        assd=mean_of_numbers(score.assd for score in scores),
        change=mean_of_numbers(changes),
        interval=mean_interval(changes) if name != SOURCE else (nan, nan),
        p=paired_p(changes) if name != SOURCE else nan,
        harmed=share_harmed(changes),
        tail=worst_tail(changes),
        worst=min(changes, default=nan),
        spread=pstdev(by_seed) if len(by_seed) > 1 else nan,
        seconds=mean_of_numbers(r.seconds for r in rows),
        memory=mean_of_numbers(r.memory for r in rows),
        forwards=mean_of_numbers(r.forwards for r in rows),
        backwards=mean_of_numbers(r.backwards for r in rows),
        pairs=pairs,
        groups=own,
        missed=sum(score.reason == "missed" for score in scores),
        invented=sum(score.reason == "invented" for score in scores),
        unadapted=sum(r.reason is not None for r in rows) if name != SOURCE else 0,
    )
