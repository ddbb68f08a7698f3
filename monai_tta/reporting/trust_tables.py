"""How well signals tell good answers from bad ones, as tables: rows of cells, Markdown, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from math import isnan, nan

from monai_tta.reporting.number_format import counted, decimal, percent
from monai_tta.reporting.tables import Grid, TableCell, markdown_table

ALL = "all domains"
UNADAPTED = "unadapted answers"
NORMALIZED = "normalized_excess_aurc"
ABOUT = (
    "The risk of an answer is one minus its mean Dice over the structures that are in the image. Who accepts only the answers "
    "that a signal calls best has a coverage (the share accepted) and a risk (their mean). AURC is the area under that curve, "
    "e-AURC what it is above the best possible order, and excess the same as a share: 0 is ideal, 1 is chance, more is worse. "
    "AUGRC is the mean risk that passes unnoticed, per case of all. Failure AUROC says how often, of a failed and another "
    "answer, the signal calls the failed one worse: 1 is ideal, 0.5 is chance. Spearman correlates the signal with the mean "
    "Dice. In brackets: 95 % bootstrap intervals over images."
)
INTERVALS = (
    "Predicted against true: all structures of all cases in the order of the predicted figure, in parts of about one size."
)


@dataclass(frozen=True)
class IntervalPart:
    """Structures of about the same predicted figure: how many, their mean predicted and true one, the share whose true one lies
    in its interval, and the intervals' mean width. All but the first are in [0, 1]."""

    cases: int
    predicted: float
    true: float
    inside: float
    width: float


@dataclass(frozen=True)
class SignalLine:
    """One signal in a table.

    ``figures`` are by name, NaN where one is not defined; ``intervals`` are their 95 % intervals. ``cases`` have both the signal
    and a Dice; ``failed`` of them have less Dice than is accepted. ``curve`` are points (coverage, selective risk). ``inside`` is
    the share of true figures in the predicted interval, and ``parts`` the same by what is predicted; NaN and empty for a signal
    that predicts no interval.
    """

    signal: str
    about: str
    cases: int
    failed: int
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    curve: tuple[tuple[float, float], ...]
    inside: float = nan
    parts: tuple[IntervalPart, ...] = ()


@dataclass(frozen=True)
class TrustTable:
    """All signals for one kind of answer on one domain, or on all together.

    ``answer`` is a contender. ``cases`` have a Dice; ``left_out`` have none, because no structure is in the label. ``adapted`` is
    None for unadapted answers, else how many were adapted. ``ideal_curve`` is the curve of the best possible order.
    """

    checkpoint: str
    domain: str
    answer: str
    cases: int
    failed: int
    adapted: int | None
    left_out: int
    mean_dice: float
    lines: tuple[SignalLine, ...]
    ideal_curve: tuple[tuple[float, float], ...] = ()

    @property
    def title(self) -> str:
        """What the table is about, in one line."""
        return f"{self.checkpoint}, {self.domain}, {self.answer} ({self.cases} case{'s' * (self.cases != 1)})"

    @property
    def notes(self) -> list[str]:
        """What the figures do not show."""
        found = [f"Mean Dice {decimal(self.mean_dice)}; {counted(self.failed, self.cases, 'answers')} failed."]
        if self.adapted is not None:
            found.append(f"{counted(self.adapted, self.cases, 'answers')} were adapted; the others are the unadapted ones.")
        if self.left_out:
            found.append(f"{self.left_out} without any structure in the label {'is' if self.left_out == 1 else 'are'} left out.")
        if fewer := [f"{line.signal} {line.cases}" for line in self.lines if line.cases < self.cases]:
            found.append(f"Signals known for fewer cases: {', '.join(fewer)}.")
        return found


@dataclass(frozen=True)
class TrustCase:
    """One answer in the list of all: its place, its Dice, and its signals. Nothing names an image."""

    checkpoint: str
    domain: str
    number: int
    answer: str
    adapted: bool
    dice: float
    of_structures: tuple[float, ...]
    signals: Mapping[str, float] = field(default_factory=dict)


def figure_cells(table: TrustTable) -> Grid:
    """A line for each signal with all its figures."""
    heads = ["signal", "AURC", "e-AURC", "excess", "AUGRC", "failure AUROC", "Spearman"]
    rows = [
        [
            TableCell(line.signal),
            TableCell(decimal(line.figures["aurc"])),
            TableCell(decimal(line.figures["excess_aurc"])),
            _with_interval(line, NORMALIZED),
            TableCell(decimal(line.figures["augrc"])),
            _with_interval(line, "failure_auroc"),
            _with_interval(line, "spearman"),
        ]
        for line in table.lines
    ]
    return [[TableCell(head) for head in heads], *rows]


def interval_cells(table: TrustTable) -> Grid:
    """What predicted intervals hold; nothing where no signal predicts one."""
    heads = ["prediction", "structures", "predicted", "true", "true one inside the interval", "width"]
    rows = [
        [TableCell(f"{line.signal}, part {place}"), *_part_cells(part)]
        for line in table.lines
        for place, part in enumerate(line.parts, 1)
    ]
    rows += [
        [
            TableCell(f"{line.signal}, all"),
            TableCell(str(sum(part.cases for part in line.parts))),
            TableCell(""),
            TableCell(""),
            _share(line.inside),
            TableCell(""),
        ]
        for line in table.lines
        if not isnan(line.inside)
    ]
    return [[TableCell(head) for head in heads], *rows] if rows else []


def overview_cells(tables: Sequence[TrustTable]) -> Grid:
    """The excess of each signal on each domain.

    Args:
        tables: of one checkpoint and one kind of answer.
    """
    names = dict.fromkeys(line.signal for table in tables for line in table.lines)
    found = {(table.domain, line.signal): line.figures[NORMALIZED] for table in tables for line in table.lines}
    heads = ["excess (0 ideal, 1 chance)", *(f"{table.domain} ({table.cases})" for table in tables)]
    rows = [
        [TableCell(name), *(TableCell(decimal(found.get((table.domain, name), nan), ".2f")) for table in tables)]
        for name in names
    ]
    return [[TableCell(head) for head in heads], *rows]


def by_answer(tables: Sequence[TrustTable]) -> dict[tuple[str, str], list[TrustTable]]:
    """The tables of each checkpoint and kind of answer, in their order."""
    found: dict[tuple[str, str], list[TrustTable]] = {}
    for table in tables:
        found.setdefault((table.checkpoint, table.answer), []).append(table)
    return found


def markdown(tables: Sequence[TrustTable], accept: float) -> str:
    """All tables, with the overviews first.

    Args:
        tables: to write.
        accept: an answer of less mean Dice has failed.
    """
    paragraphs = [ABOUT, f"An answer has failed when its mean Dice is below {accept:g}."]
    for (checkpoint, answer), own in by_answer(tables).items():
        paragraphs += [f"**{checkpoint}, {answer}**", markdown_table(overview_cells(own))]
    for table in tables:
        paragraphs += [f"**{table.title}**", " ".join(table.notes), markdown_table(figure_cells(table))]
        if cells := interval_cells(table):
            paragraphs += [INTERVALS, markdown_table(cells)]
    return "\n\n".join(paragraphs) + "\n"


def case_list(cases: Sequence[TrustCase], labels: Sequence[str]) -> str:
    """All answers as CSV: a line for each, with a column for each structure and each signal.

    Args:
        cases: the answers.
        labels: the names of the structures; numbers are taken where these are of another count.
    """
    count = max((len(case.of_structures) for case in cases), default=0)
    names = list(labels) if len(labels) == count else [str(k) for k in range(1, count + 1)]
    signals = list(dict.fromkeys(name for case in cases for name in case.signals))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["checkpoint", "domain", "number", "answer", "adapted", "mean dice", *(f"dice {name}" for name in names), *signals]
    writer.writerow(heads)
    for case in cases:
        place = [case.checkpoint, case.domain, case.number, case.answer, "yes" if case.adapted else "no"]
        dice = [*case.of_structures, *[nan] * (count - len(case.of_structures))]
        figures = [case.dice, *dice, *(case.signals.get(name, nan) for name in signals)]
        writer.writerow([*place, *("" if isnan(figure) else f"{figure:.6g}" for figure in figures)])
    return text.getvalue()


def _with_interval(line: SignalLine, name: str) -> TableCell:
    low, high = line.intervals.get(name, (nan, nan))
    ends = "" if isnan(low) else f" ({low:.2f} to {high:.2f})"
    figure = line.figures[name]
    return TableCell(f"{decimal(figure, '.2f')}{'' if isnan(figure) else ends}")


def _part_cells(part: IntervalPart) -> list[TableCell]:
    figures = [
        TableCell(decimal(part.predicted)),
        TableCell(decimal(part.true)),
        _share(part.inside),
        TableCell(decimal(part.width)),
    ]
    return [TableCell(str(part.cases)), *figures]


def _share(value: float) -> TableCell:
    return TableCell("-" if isnan(value) else percent(value))
