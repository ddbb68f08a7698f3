"""The conclusion of a comparison: two sentences, drawn by a fixed rule from the figures. `docs/compare.md` states the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan
from statistics import fmean

from monai_tta.reporting.number_format import counted, percent
from monai_tta.reporting.summary import SOURCE, Line, Table, budget_words

MIN_CASES = 10  # a domain with fewer says too little
MIN_CHANGE = 0.005  # half a point of Dice: a mean change that is worth a word
MAX_HARM = 0.05  # a contender that harms a larger share of its cases is not recommended


@dataclass(frozen=True)
class Conclusion:
    """What the figures of one checkpoint and budget come to.

    ``about`` names both. ``sentences`` are two. ``note`` names the domains that were left out; it may be empty.
    """

    about: str
    sentences: tuple[str, str]
    note: str = ""


@dataclass(frozen=True)
class _Place:
    """One contender on one domain."""

    domain: str
    line: Line

    @property
    def gained(self) -> bool:
        return self.line.change > MIN_CHANGE and self.line.interval[0] > 0

    @property
    def lost(self) -> bool:
        return self.line.change < -MIN_CHANGE and self.line.interval[1] < 0


@dataclass(frozen=True)
class _Record:
    """One contender on all domains that have enough cases."""

    contender: str
    places: tuple[_Place, ...]

    @property
    def change(self) -> float:
        """The mean over domains of the mean change, in Dice."""
        return fmean(place.line.change for place in self.places)

    @property
    def cases(self) -> int:
        return sum(len(place.line.pairs) for place in self.places)

    @property
    def harmed(self) -> int:
        return sum(place.line.harmed_cases for place in self.places)

    @property
    def harm(self) -> float:
        return self.harmed / self.cases

    @property
    def worst(self) -> _Place:
        return min(self.places, key=lambda place: place.line.worst)

    @property
    def gained(self) -> list[_Place]:
        return [place for place in self.places if place.gained]


def conclusions(tables: Sequence[Table]) -> list[Conclusion]:
    """One conclusion for each checkpoint and budget, in the order of the tables.

    Args:
        tables: of `monai_tta.reporting.summary.tables_of`.
    """

    def key(table: Table) -> tuple[str, int]:
        return table.checkpoint, table.budget

    order = {k: place for place, k in enumerate(dict.fromkeys(map(key, tables)))}
    groups = groupby(sorted(tables, key=lambda table: order[key(table)]), key)
    return [_conclusion(f"{checkpoint}, {budget_words(budget)}", list(own)) for (checkpoint, budget), own in groups]


def _conclusion(about: str, tables: list[Table]) -> Conclusion:
    names = dict.fromkeys(line.contender for table in tables for line in table.lines if line.contender != SOURCE)
    if not names:
        return Conclusion(about, ("Only Source was run, so nothing is compared.", "Run other contenders, too, to compare them."))
    lines = [_Place(table.domain, line) for table in tables for line in table.lines if line.contender in names and line.pairs]
    if not lines:
        return Conclusion(about, ("No case has a Dice by both Source and another contender.", "Nothing can be concluded."))
    enough = [place for place in lines if len(place.line.pairs) >= MIN_CASES]
    if not enough:
        first = f"Too few cases to conclude: no domain has {MIN_CASES} cases with a Dice by Source and by another contender."
        return Conclusion(about, (first, "The figures describe these cases alone."))
    known = {place.domain for place in enough}
    left_out = [table.domain for table in tables if table.domain not in known]
    note = f"Left out of the conclusion, with fewer than {MIN_CASES} cases: {', '.join(left_out)}." if left_out else ""
    records = [_Record(name, tuple(place for place in enough if place.line.contender == name)) for name in names]
    return Conclusion(about, _sentences([record for record in records if record.places]), note)


def _sentences(records: list[_Record]) -> tuple[str, str]:
    """About the best contender of those that harm few cases, then a warning about one of the others."""
    if len(records) == 1:
        return f"{records[0].contender} {_figures(records[0])}.", _worst(records[0])
    careful = [record for record in records if record.harm <= MAX_HARM]
    best = max((record for record in careful if record.gained), key=lambda record: record.change, default=None)
    if best is not None:
        first = f"{best.contender} {_figures(best)}."
    elif careful:
        first = f"No contender that harmed at most {percent(MAX_HARM)} of its cases gained more than half a point on any domain."
    else:
        best = min(records, key=lambda record: record.harm)
        first = f"Every contender harmed more than {percent(MAX_HARM)} of its cases; {best.contender} harmed the fewest: "
        first += f"it {_figures(best)}."
    return first, _warning([record for record in records if record is not best], best is not None)


def _warning(others: list[_Record], after_best: bool) -> str:
    """About the contender that gained the most although it harms many; without one, about the one that harmed the most."""
    tempting = [record for record in others if record.gained and record.harm > MAX_HARM]
    if tempting:
        chosen = max(tempting, key=lambda record: record.change)
        most = ""
    else:
        chosen = max(others, key=lambda record: (record.harm, -record.worst.line.worst))
        most = f", the most {'of the others' if after_best else 'of all'}" if len(others) > 1 else ""
    if not chosen.harmed and len(others) > 1:
        return f"None of the {'other ' if after_best else ''}{len(others)} contenders harmed a case."
    if not chosen.harmed:
        return f"{chosen.contender} {_figures(chosen)}."
    lost = f"its worst case lost {_points(chosen.worst.line.worst)}, on {chosen.worst.domain}"
    return f"{chosen.contender} {_figures(chosen, 'but' if chosen.gained else 'and')}{most}; {lost}."


def _figures(record: _Record, link: str = "and") -> str:
    """On how many domains a contender gained and lost, and how many cases it harmed, as a part of a sentence."""
    clauses = [_gain(record)]
    lost = [place for place in record.places if place.lost]
    if lost and len(record.places) > 1:
        most = min(lost, key=lambda place: place.line.change)
        clauses.append(f"lost more than half a point on {len(lost)} (the most, {_points(most.line.change)}, on {most.domain})")
    comma = "," if len(clauses) > 1 or link == "but" else ""
    return f"{', '.join(clauses)}{comma} {link} harmed {counted(record.harmed, record.cases, 'cases')}"


def _gain(record: _Record) -> str:
    if len(record.places) == 1:
        (place,) = record.places
        if place.gained or place.lost:
            return f"{'gained' if place.gained else 'lost'} {_points(place.line.change)} of Dice on average on {place.domain}"
        return f"neither gained nor lost more than half a point of Dice on average on {place.domain}"
    count = len(record.places)
    words = f"gained more than half a point of Dice on average on {len(record.gained) or 'none'} of {count} domains"
    if record.gained:
        most = max(record.gained, key=lambda place: place.line.change)
        words += f" (the most, {_points(most.line.change)}, on {most.domain})"
    return words


def _worst(record: _Record) -> str:
    change = record.worst.line.worst
    if isnan(change) or round(100 * change, 1) >= 0:
        return "No case lost Dice."
    return f"Its worst case lost {_points(change)} of Dice, on {record.worst.domain}."


def _points(change: float) -> str:
    return f"{100 * abs(change):.1f} points"
