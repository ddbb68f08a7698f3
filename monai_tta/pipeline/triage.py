"""Sort the masks of a run by what is expected of them: use as it is, look at, do not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monai_tta.core.record import Case, StructureQuality
from monai_tta.quality.quality_predictor import QualityPredictor
from monai_tta.reporting.masks_to_use import LOOK, REFUSE, UNKNOWN, UNUSUAL, USE, is_unusual, judge
from monai_tta.reporting.number_format import wanted_dice, with_interval


@dataclass(frozen=True)
class Judged:
    """What is to be done with one mask.

    Args:
        label: what the image is called.
        what: one of `USE`, `LOOK`, `UNUSUAL`, `UNKNOWN` and `REFUSE`.
        worst: what is expected of the structure that decided; None where nothing is known.
        chance: how likely some structure of the mask is below the wanted Dice, at most.
        ranking: the mean over structures of `StructureQuality.ranking`; 0 where nothing is known.
    """

    label: str
    what: str
    worst: StructureQuality | None
    chance: float
    ranking: float = 0.0

    def row(self) -> tuple[str, str, str]:
        """As a row of a table."""
        worst = self.worst
        words = "" if worst is None else with_interval(worst.dice, worst.low, worst.high)
        return self.label, self.what, words


def triage(cases: Sequence[tuple[str, Case]], predictor: QualityPredictor, accept: float) -> list[Judged]:
    """Judge each mask by its worst structure, see `monai_tta.reporting.masks_to_use.judge`.

    Args:
        cases: names of images with their records.
        predictor: what predicted their quality.
        accept: the wanted Dice.

    Returns:
        the masks to use, to look at and not to use, each by their ranking, the best first.
    """
    order = [USE, LOOK, UNUSUAL, UNKNOWN, REFUSE]
    found = [_judge(label, case, predictor, accept) for label, case in cases]
    return sorted(found, key=lambda one: (order.index(one.what), -one.ranking, one.label))


def words_on_accepted(found: Sequence[Judged], accept: float) -> str:
    """How many masks there are of each kind, and how many of those to use are expected to be bad."""
    counts = {what: sum(one.what.startswith(what) for one in found) for what in (USE, LOOK, REFUSE)}
    as_is = "it is" if counts[USE] == 1 else "they are"
    words = f"{counts[USE]} to use as {as_is}, {counts[LOOK]} to look at, {counts[REFUSE]} not to use"
    used = [one.chance for one in found if one.what == USE]
    if not used:
        return words
    share = sum(used) / len(used)
    return (
        f"{words}; of those to use, {share:.1%} at most are expected to have a structure with a Dice below {wanted_dice(accept)}"
    )


def _judge(label: str, case: Case, predictor: QualityPredictor, accept: float) -> Judged:
    if not case.quality:
        return Judged(label, UNUSUAL if is_unusual(case.input_check) else UNKNOWN, None, 1.0)
    # The chances of several structures are added: at most so many masks have a bad one, however their errors hang together.
    chance = min(1.0, sum(predictor.chance_below(one, case.adapted, accept) for one in case.quality))
    what, worst = judge([(one.low, one.high) for one in case.quality], accept, case.input_check)
    ranking = sum(one.ranking for one in case.quality) / len(case.quality)
    return Judged(label, what, case.quality[worst], chance, ranking)
