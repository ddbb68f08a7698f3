"""From the rows of `monai-tta trust` to figures: how well each signal tells good answers from bad ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import isnan, nan

import numpy as np

from monai_tta.quality.failure_detection import risk_coverage_curve
from monai_tta.quality.interval_coverage import coverage_by_prediction, interval_coverage
from monai_tta.quality.ranking_bootstrap import RESAMPLES, bootstrap_intervals
from monai_tta.quality.ranking_figures import ranking_figures
from monai_tta.quality.signals import SIGNALS, Signal, structure_columns, true_surface_column
from monai_tta.reporting.rows import Row, Score
from monai_tta.reporting.significance import mean_of_numbers
from monai_tta.reporting.summary import SOURCE, quality
from monai_tta.reporting.trust_tables import ALL, UNADAPTED, IntervalPart, SignalLine, TrustCase, TrustTable

_COUNTED_AS = {"absent": 1.0, "invented": 0.0}


def with_all_signals(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with all signals of its answer.

    What belongs to the image is measured with the unadapted answer. An answer that was not adapted is the unadapted one and has
    all its signals.

    Args:
        rows: of Source and of other contenders.
    """
    of_image = {signal.name for signal in SIGNALS if signal.of_image}
    source = {
        (row.key.checkpoint, row.key.domain, row.key.seed, row.key.number): row for row in rows if row.key.contender == SOURCE
    }
    found = []
    for row in rows:
        plain = source.get((row.key.checkpoint, row.key.domain, row.key.seed, row.key.number))
        taken = {} if plain is None else {n: v for n, v in plain.signals.items() if row.reason is not None or n in of_image}
        found.append(replace(row, signals={**taken, **row.signals}))
    return found


def trust_tables(
    rows: Sequence[Row], accept: float, image_lists: Mapping[str, str], resamples: int = RESAMPLES
) -> list[TrustTable]:
    """A table for each checkpoint, contender and domain, and for all domains together where there are several.

    Args:
        rows: of `with_all_signals`.
        accept: an answer of less mean Dice has failed.
        image_lists: by domain, what is the same for domains that look at the same images, one by one. In intervals these are
            drawn together.
        resamples: of the bootstrap.
    """
    tables = []
    for checkpoint in dict.fromkeys(row.key.checkpoint for row in rows):
        for contender in dict.fromkeys(row.key.contender for row in rows):
            own = [row for row in rows if row.key.checkpoint == checkpoint and row.key.contender == contender]
            domains = list(dict.fromkeys(row.key.domain for row in own))
            for domain in domains + ([ALL] if len(domains) > 1 else []):
                here = [row for row in own if domain in (row.key.domain, ALL)]
                tables.append(_table(checkpoint, domain, contender, here, accept, image_lists, resamples))
    return tables


def trust_cases(rows: Sequence[Row]) -> list[TrustCase]:
    """Each answer with its Dice and its signals.

    Args:
        rows: of `with_all_signals`.
    """
    return [
        TrustCase(
            row.key.checkpoint,
            row.key.domain,
            row.key.number,
            _answer_words(row.key.contender),
            row.reason is None,
            quality(row),
            tuple(score.dice for score in row.scores),
            row.signals,
        )
        for row in rows
    ]


def _answer_words(contender: str) -> str:
    return UNADAPTED if contender == SOURCE else contender


def _table(
    checkpoint: str,
    domain: str,
    contender: str,
    rows: Sequence[Row],
    accept: float,
    image_lists: Mapping[str, str],
    resamples: int,
) -> TrustTable:
    known = [row for row in rows if not isnan(quality(row))]
    lines = [_line(signal, known, accept, image_lists, resamples) for signal in SIGNALS]
    dice = [quality(row) for row in known]
    return TrustTable(
        checkpoint=checkpoint,
        domain=domain,
        answer=_answer_words(contender),
        cases=len(known),
        failed=sum(value < accept for value in dice),
        adapted=None if contender == SOURCE else sum(row.reason is None for row in known),
        left_out=len(rows) - len(known),
        mean_dice=mean_of_numbers(dice),
        lines=tuple(line for line in lines if line is not None),
        ideal_curve=_curve(dice, dice) if dice else (),
    )


def _line(
    signal: Signal, rows: Sequence[Row], accept: float, image_lists: Mapping[str, str], resamples: int
) -> SignalLine | None:
    """One signal on some cases; None where no case has it."""
    known = [row for row in rows if signal.name in row.signals]
    if not known:
        return None
    confidence = [signal.confidence(row.signals[signal.name]) for row in known]
    dice = [quality(row) for row in known]
    images = [(image_lists.get(row.key.domain, row.key.domain), row.key.number) for row in known]
    inside, parts = _intervals(signal, known)
    return SignalLine(
        signal=signal.name,
        about=signal.about,
        cases=len(known),
        failed=sum(value < accept for value in dice),
        figures=asdict(ranking_figures(confidence, dice, accept)),
        intervals=bootstrap_intervals(confidence, dice, accept, images, resamples),
        curve=_curve(confidence, dice),
        inside=inside,
        parts=parts,
    )


def _curve(confidence: Sequence[float], dice: Sequence[float]) -> tuple[tuple[float, float], ...]:
    curve = risk_coverage_curve(confidence, 1 - np.asarray(dice))
    return tuple(zip(curve.coverage.tolist(), curve.selective_risk.tolist(), strict=True))


def _intervals(signal: Signal, rows: Sequence[Row]) -> tuple[float, tuple[IntervalPart, ...]]:
    """What predicted intervals hold, over all structures of all cases; NaN and nothing for a signal that predicts none."""
    found = []
    for row in rows if signal.predicts else ():
        for structure, score in enumerate(row.scores, 1):
            true = _true_figure(signal, row, structure, score)
            columns = structure_columns(signal.name, structure)
            if not isnan(true) and all(name in row.signals for name in columns):
                found.append((true, *(row.signals[name] for name in columns)))
    if not found:
        return nan, ()
    true_figures, predicted, low, high = np.array(found).T
    parts = coverage_by_prediction(true_figures, predicted, low, high)
    return interval_coverage(true_figures, low, high), tuple(IntervalPart(**asdict(part)) for part in parts)


def _true_figure(signal: Signal, row: Row, structure: int, score: Score) -> float:
    """What a signal's prediction for a structure is compared with; NaN where it was not measured.

    A structure that is not in the label has Dice 1 where it was not found, else 0, as quality predictors count it.
    """
    if signal.predicts == "surface":
        return row.signals.get(true_surface_column(structure), nan)
    return _COUNTED_AS.get(score.reason or "", score.dice)
