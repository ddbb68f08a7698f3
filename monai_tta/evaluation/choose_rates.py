"""A learning rate for each method, chosen on simulated scanners of the source and never on what is reported.

A method's published rate was chosen for another network and other images. So that no method loses by that alone, each is also
compared with the best of a few rates. They are tried on cases that are set aside, seen through the bundle's simulated scanners.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.pipeline.bundle_config import BundleError
from monai_tta.reporting.rows import RowFile
from monai_tta.reporting.significance import mean_of_numbers
from monai_tta.reporting.summary import SOURCE, tables_of

FACTORS = (0.1, 1.0, 10.0, 100.0)  # of the published rate
FILE = "rates.csv"


@dataclass(frozen=True)
class TriedRate:
    """How a method did at one rate on the cases that were set aside.

    Args:
        contender: the label of the row with the published rate.
        rate: the learning rate.
        change: the mean over simulated scanners of the mean change of Dice against Source; NaN where nothing was measured.
        harmed: how many cases lost more than a point.
        cases: how many cases there were, over all simulated scanners.
        chosen: whether it is the best; of equals, the smallest.
    """

    contender: str
    rate: float
    change: float
    harmed: int
    cases: int
    chosen: bool = False


def at_rate(contender: Contender, rate: float, words: str = "") -> Contender:
    """A row at another rate, which its label says."""
    return Contender(f"{contender.label}, {words}lr {rate:.4g}", contender.method.with_lr(rate), contender.choices)


def grid_of(contender: Contender) -> list[tuple[float, Contender]]:
    """The rates that are tried for a row, each with its row; nothing for a method without a rate."""
    rate = contender.method.lr
    return [] if rate is None else [(rate * factor, at_rate(contender, rate * factor)) for factor in FACTORS]


def rate_trial(plan: ComparisonPlan) -> ComparisonPlan:
    """The comparison that tries the rates of a plan's rows, on the cases that are set aside. It belongs in `trial_folder`.

    Args:
        plan: what is to be compared.

    Raises:
        BundleError: for a bundle without simulated scanners.
    """
    tried = tuple(at for row in plan.contenders() for _, at in grid_of(row))
    domains = tuple(domain.label for domain in protocol_of(plan.root).domains if domain.shift)
    if not domains:
        raise BundleError(f"{plan.root / 'configs' / 'compare.yaml'} names no simulated scanner, on which rates could be chosen")
    rows: dict[str, Any] = {"only": (SOURCE,), "ablations": False, "more": tried, "part": "choice"}
    return replace(plan, domains=domains, severities=(), pictures=False, metrics=("dice",), **rows)


def trial_folder(out: Path) -> Path:
    """Where the trials of a comparison are kept, from which they resume.

    Args:
        out: the folder of the comparison.
    """
    return out / "choice"


def with_best_rates(plan: ComparisonPlan, out: Path) -> ComparisonPlan:
    """The plan that remains to be run when `rate_trial` is done, on the cases that were not set aside.

    It has a row more for each method whose best rate is not the published one. ``out/rates.csv`` lists what each rate did.

    Args:
        plan: what is to be compared.
        out: the folder of the comparison.
    """
    rows = [row for row in plan.contenders() if row.method.lr is not None]
    results = results_of(rows, trial_folder(out) / "rows.sqlite", plan.budgets[0])
    _write(results, out / FILE)
    best = {one.contender: one.rate for one in results if one.chosen}
    added = [at_rate(row, best[row.label], "best ") for row in rows if row.label in best and best[row.label] != row.method.lr]
    return replace(plan, more=tuple(added), part="report")


def results_of(rows: Sequence[Contender], file: Path, budget: int) -> list[TriedRate]:
    """What each rate did.

    Args:
        rows: with their published rates.
        file: of the trials' rows.
        budget: of the rows that count.
    """
    opened = RowFile(file)
    try:
        tables = tables_of([row for row in opened.rows() if row.key.budget == budget])
    finally:
        opened.close()
    found = []
    for row in rows:
        of_row = []
        for rate, at in grid_of(row):
            lines = [line for table in tables for line in table.lines if line.contender == at.label]
            change = mean_of_numbers(line.change for line in lines)
            harmed = sum(line.harmed_cases for line in lines)
            of_row.append(TriedRate(row.label, rate, change, harmed, sum(len(line.pairs) for line in lines)))
        known = [one for one in of_row if not isnan(one.change)]
        best = max(known, key=lambda one: (one.change, -one.rate), default=None)
        found += [replace(one, chosen=one is best) for one in of_row]
    return found


def _write(results: Sequence[TriedRate], file: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["contender", "rate", "mean change (points)", "harmed", "cases", "chosen"])
    for one in results:
        writer.writerow([one.contender, f"{one.rate:.4g}", f"{100 * one.change:.2f}", one.harmed, one.cases, int(one.chosen)])
    file.write_text(text.getvalue(), encoding="utf-8")
