"""The jobs of a comparison: what one process does in one go, and what of a plan is not done yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import Domain
from monai_tta.reporting.rows import Key


@dataclass(frozen=True)
class ComparisonJob:
    """What one process does in one go: contenders on cases of one domain, in order."""

    plan: ComparisonPlan
    checkpoint: str
    domain: Domain
    numbers: tuple[int, ...]
    contenders: tuple[Contender, ...]
    budget: int
    seed: int

    def key(self, contender: Contender, number: int) -> Key:
        """The key of the row of one answer."""
        return Key(self.checkpoint, self.domain.label, contender.label, self.budget, self.seed, number)

    def __str__(self) -> str:
        return f"{self.checkpoint}, {self.domain.label}"


def jobs_of(plan: ComparisonPlan, done: set[Key], sizes: dict[str, int]) -> Iterator[ComparisonJob]:
    """What is not done yet: a job per case for all episodic contenders, and a job per domain for each continual contender.

    A continual contender that lacks a case answers the domain again from the first case on: each answer depends on the cases
    before it.

    Args:
        plan: what to compare.
        done: the keys of the rows that are done.
        sizes: how many cases each domain has, by its label; a domain that is not in it is left out.
    """
    places = [d for d in plan.places() if d.label in sizes]
    for checkpoint, domain in ((c, d) for c in plan.checkpoints for d in places):
        for budget, seed in ((b, s) for b in plan.budgets for s in plan.seeds):
            numbers = plan.numbers(domain, sizes[domain.label])
            everything = ComparisonJob(plan, checkpoint, domain, numbers, tuple(plan.contenders()), budget, seed)
            streams = [c for c in everything.contenders if c.choices.get("reset") == "never"]
            for stream in streams:
                if any(everything.key(stream, n) not in done for n in numbers):
                    yield replace(everything, contenders=(stream,))
            for n in numbers:
                missing = tuple(c for c in everything.contenders if c not in streams and everything.key(c, n) not in done)
                if missing:
                    yield replace(everything, numbers=(n,), contenders=missing)
