"""Which cases are shown as examples: the worst, the median and the best one of each contender, by the change of their Dice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from monai_tta.reporting.number_format import decimal, signed
from monai_tta.reporting.rows import Key, Row
from monai_tta.reporting.summary import SOURCE, Table, file_name, quality

MOST_CONTENDERS = 4  # of a table get example cases, unless they are named


@dataclass(frozen=True)
class ExampleCase:
    """One answer to show.

    ``rank`` is "worst", "median" or "best", or "only" where there is one case. ``before`` and ``after`` are the mean Dice by
    Source and by the contender, in [0, 1].
    """

    rank: str
    key: Key
    before: float
    after: float

    @property
    def place(self) -> tuple[str, str, int]:
        """The `Table.place` that it belongs to."""
        return self.key.checkpoint, self.key.domain, self.key.budget

    @property
    def picture(self) -> str:
        """The name of its picture's file, without a folder."""
        where = file_name(self.key.checkpoint, self.key.domain, str(self.key.budget or "all"), self.key.contender)
        return f"{where}_seed-{self.key.seed}_case-{self.key.number}.png"

    @property
    def caption(self) -> str:
        """What the picture shows, in one line."""
        change = f"Dice {decimal(self.before)} to {decimal(self.after)}, {signed(100 * (self.after - self.before))} points"
        return f"{self.key.contender}, {self.rank} case (number {self.key.number}, seed {self.key.seed}): {change}"


def example_cases(table: Table, rows: Sequence[Row]) -> Iterator[ExampleCase]:
    """The example cases of each contender other than Source, in the order of the table.

    Cases are ranked by the change of their mean Dice, averaged over seeds, as in the table. With several seeds, the answer
    shown is the one whose own change is closest to that average. The median of an even number of cases is the lower one.

    Args:
        table: of `monai_tta.reporting.summary.tables_of`.
        rows: that the table was made of; others may be among them.
    """
    here = {row.key: quality(row) for row in rows if (row.key.checkpoint, row.key.domain, row.key.budget) == table.place}
    for line in table.lines:
        if line.contender == SOURCE or not line.pairs:
            continue
        changes = {number: after - before for number, (before, after) in line.pairs.items()}
        for number, rank in _ranks(changes).items():
            yield _closest(rank, line.contender, number, changes[number], here)


def _ranks(changes: Mapping[int, float]) -> dict[int, str]:
    """The ranks of the cases to show, by number; a case that would have two keeps the first."""
    ordered = sorted(changes, key=lambda number: (changes[number], number))
    if len(ordered) == 1:
        return {ordered[0]: "only"}
    chosen = {"worst": ordered[0], "best": ordered[-1], "median": ordered[(len(ordered) - 1) // 2]}
    ranks: dict[int, str] = {}
    for rank, number in chosen.items():
        ranks.setdefault(number, rank)
    return {number: ranks[number] for number in sorted(ranks, key=lambda n: ordered.index(n))}


def _closest(rank: str, contender: str, number: int, change: float, here: Mapping[Key, float]) -> ExampleCase:
    """Of the seeds of a case, the one whose change is closest to the case's mean change; the first of equals."""
    found = []
    for key, after in here.items():
        before = here.get(Key(key.checkpoint, key.domain, SOURCE, key.budget, key.seed, key.number), float("nan"))
        if (key.contender, key.number) == (contender, number) and not isnan(after - before):
            found.append(ExampleCase(rank, key, before, after))
    return min(found, key=lambda example: (abs(example.after - example.before - change), example.key.seed))


def chosen_contenders(table: Table, named: Sequence[str] = ()) -> set[str]:
    """The contenders that get example cases: those named, or else the few with the largest mean change."""
    if named:
        return set(named)
    others = [line for line in table.lines if line.contender != SOURCE and line.pairs]
    return {line.contender for line in sorted(others, key=lambda line: -line.change)[:MOST_CONTENDERS]}
