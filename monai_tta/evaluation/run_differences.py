"""Two runs over the same images, compared case by case: what their records say, and the masks themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_tta.evaluation.mask_differences import IncomparableMasks, MaskDifferences, compare_masks
from monai_tta.pipeline.mask_labels import UnknownLabels

Record = Mapping[str, Any]
Fact = tuple[str, Any, Any]  # what it is, and what each of two records says of it
# What of a case's record says how its answer came about. Losses, times and memory are figures of it.
CASE_FACTS = (
    *("image_hash", "status", "reason", "network", "method", "head", "learn", "reset", "seed", "shape", "precision", "budget"),
    *("n_windows", "n_moving", "selected", "answers", "input_check", "computed_on", "threads"),
)
MISSING = "not on record"


@dataclass(frozen=True)
class CaseDifferences:
    """How the answers to one case differ in two runs.

    Args:
        name: of the case.
        cases: what each run's records say of it; None in a run that has no such case.
        masks: how its masks differ; None where they were not compared.
        why: why they were not compared, in words; None where they were.
        failed: whether that is because a mask could not be read.
    """

    name: str
    cases: tuple[Record | None, Record | None]
    masks: MaskDifferences | None = None
    why: str | None = None
    failed: bool = False

    @property
    def same(self) -> bool:
        """Whether the masks are the same, or there is none in both runs."""
        if self.masks is not None:
            return self.masks.same
        return all(case is not None and case["status"] == "failed" for case in self.cases)

    @property
    def rank(self) -> tuple[float, ...]:
        """Sorts the most different cases first: those without a comparison, then by the lowest Dice and the voxels."""
        if self.masks is None:
            return (1.0 if self.same else -1.0, 0.0)
        return (self.masks.worst, -float(self.masks.n_different))

    def facts(self) -> list[Fact]:
        """What the two records say otherwise."""
        one, two = self.cases
        return [] if one is None or two is None else differing(one, two, CASE_FACTS)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        shown = ("status", "reason", "error", "seconds", "quality")
        return {
            "name": self.name,
            "same": self.same,
            "masks": None if self.masks is None else self.masks.to_dict(),
            "not_compared": self.why,
            "differs": facts_to_dict(self.facts()),
            "cases": [None if case is None else {key: case.get(key) for key in shown} for case in self.cases],
        }


def compare_runs(folders: Sequence[Path], documents: Sequence[Record]) -> list[CaseDifferences]:
    """Compare two runs case by case, the most different first.

    Args:
        folders: of the masks of each run.
        documents: what the ``records.json`` of each holds.

    Raises:
        ValueError: for anonymous records, which name no cases.
    """
    if any(document["run"]["anonymous"] for document in documents):
        raise ValueError(
            "anonymous records name no cases and no masks, so nothing can be compared; give runs without --anonymous"
        )
    first, second = ({case["name"]: case for case in document["cases"]} for document in documents)
    names = list(dict.fromkeys([*first, *second]))
    found = [compare_cases(name, folders, (first.get(name), second.get(name))) for name in names]
    return sorted(found, key=lambda one: one.rank)


def compare_cases(name: str, folders: Sequence[Path], cases: tuple[Record | None, Record | None]) -> CaseDifferences:
    """Compare what two runs answered to one case.

    Args:
        name: of the case.
        folders: of the masks of each run.
        cases: what each run's records say of it; None where there is nothing.
    """
    one, two = cases
    if one is None or two is None:
        return CaseDifferences(name, cases, why=f"only in the {'second' if one is None else 'first'} run")
    failed = [place for place, case in (("first", one), ("second", two)) if case["status"] == "failed"]
    if failed:
        return CaseDifferences(name, cases, why="failed in both runs" if len(failed) > 1 else f"failed in the {failed[0]} run")
    masks, others = ([folder / mask for mask in case["masks"]] for folder, case in zip(folders, (one, two), strict=True))
    if missing := [path for path in (*masks, *others) if not path.is_file()]:
        return CaseDifferences(name, cases, why=f"{missing[0]} is not there any more", failed=True)
    try:
        return CaseDifferences(name, cases, compare_masks(masks, others, one["labels"], two["labels"]))
    except IncomparableMasks as error:
        return CaseDifferences(name, cases, why=str(error))
    except (UnknownLabels, OSError, ValueError) as error:
        return CaseDifferences(name, cases, why=str(error), failed=True)


def run_facts(document: Record, other: Record) -> list[Fact]:
    """What the records of two runs say otherwise on top: the settings, then the versions.

    Args:
        document: what the first ``records.json`` holds.
        other: what the second one holds.
    """
    found = []
    for part in ("settings", "versions"):
        one, two = document["run"][part], other["run"][part]
        found += [(f"{part}: {what}", *values) for what, *values in differing(one, two, [*dict.fromkeys([*one, *two])])]
    return found


def differing(one: Record, two: Record, names: Sequence[str]) -> list[Fact]:
    """Entries that two records say otherwise, `MISSING` where one does not say it.

    Args:
        one: the first record.
        two: the second record.
        names: of the entries.
    """
    pairs = ((name, one.get(name, MISSING), two.get(name, MISSING)) for name in names)
    return [(name, found, other) for name, found, other in pairs if found != other]


def facts_to_dict(facts: Sequence[Fact]) -> dict[str, list[Any]]:
    """For JSON: by what it is, what each record says."""
    return {what: [one, two] for what, one, two in facts}
