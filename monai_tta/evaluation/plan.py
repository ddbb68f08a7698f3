"""What is to be compared on what, and the jobs that this comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai_tta._version import __version__
from monai_tta.compute.precision import Precision
from monai_tta.evaluation.contenders import Contender, chosen_contenders
from monai_tta.evaluation.protocol import Domain, chosen_domains, protocol_of
from monai_tta.pipeline.bundle_predictor import predictor_file
from monai_tta.reporting.rows import METRICS, Key


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """What is to be compared on what; nothing named means everything.

    Args:
        root: a bundle with ``configs/evaluate.yaml`` and ``configs/compare.yaml``.
        dataset_dir: labelled data, DATA in the latter.
        checkpoints: files in the bundle's ``models``.
        only: contenders besides Source.
        domains: labels of domains.
        severities: 1 to 5, of each simulated scanner instead of its own.
        budgets: how many windows of a volume teach; 0 for all.
        seeds: each draws the simulated scanners and all that is random in a method anew.
        ablations: whether the rows of `monai_tta.evaluation.contenders.ABLATIONS` join.
        metrics: which of "dice", "nsd", "hd95", "assd" are computed.
        precision: of `AdaptiveInferer`.

    Raises:
        ValueError: for a metric, budget, precision, contender, domain or severity that there is not.
    """

    root: Path
    dataset_dir: Path
    checkpoints: tuple[str, ...] = ("model.pt",)
    only: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    budgets: tuple[int, ...] = (4,)
    seeds: tuple[int, ...] = (0,)
    ablations: bool = False
    metrics: tuple[str, ...] = METRICS
    precision: Precision = "exact"

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"no metric {name!r}; there are: {'; '.join(METRICS)}")
        if "dice" not in self.metrics:
            raise ValueError(f"the tables are about changes of Dice; give dice besides {', '.join(self.metrics)}")
        if wrong := [b for b in self.budgets if b < 0]:
            raise ValueError(f"a budget is a number of windows, or 0 for all; found {wrong[0]}")
        if self.precision not in ("exact", "fast"):
            raise ValueError(f"precision must be one of ('exact', 'fast'), found {self.precision!r}")
        self.contenders()
        self.places()

    def contenders(self) -> list[Contender]:
        """Who is compared, Source first."""
        return chosen_contenders(protocol_of(self.root), self.only, self.ablations)

    def places(self) -> list[Domain]:
        """Where."""
        return chosen_domains(protocol_of(self.root), self.domains, self.severities)

    def settings(self) -> dict[str, Any]:
        """What the rows of one file must have in common, see `RowFile.settle`; the domains' cases come with `LabelledDomain`."""
        protocol = protocol_of(self.root)
        configs = [(self.root / "configs" / f"{name}.yaml").read_bytes() for name in ("inference", "evaluate")]
        files = [self.root / "models" / name for name in self.checkpoints]
        files += [predictor_file(self.root, name) for name in self.checkpoints]
        all_agree = [*chosen_contenders(protocol, ablations=True), *self.contenders()]
        return {
            "bundle": self.root.resolve().name,
            "configs": sha256(b"\n".join(configs)).hexdigest()[:16],
            "labels": protocol.labels,
            "before": protocol.before,
            "tolerance": protocol.tolerance,
            "unit": protocol.unit,
            "metrics": [name for name in METRICS if name in self.metrics],
            "precision": self.precision,
            "versions": {"monai_tta": __version__, **{name: version(name) for name in ("monai", "torch", "numpy")}},
            "checkpoints": {path.name: _digest(path) for path in files if path.is_file()},
            "contenders": {c.label: f"{c.method!r} {c.choices}" for c in all_agree},
        }


@dataclass(frozen=True)
class ComparisonJob:
    """What one process does in one go: some contenders on some cases, in order."""

    plan: ComparisonPlan
    checkpoint: str
    domain: Domain
    numbers: tuple[int, ...]
    contenders: tuple[Contender, ...]
    budget: int
    seed: int

    def key(self, contender: Contender, number: int) -> Key:
        """What the row will be found by."""
        return Key(self.checkpoint, self.domain.label, contender.label, self.budget, self.seed, number)


def jobs_of(plan: ComparisonPlan, done: set[Key], sizes: dict[str, int]) -> Iterator[ComparisonJob]:
    """What is not done yet: a job per case for all that is episodic, one per stream for each that is continual.

    A stream that lacks a case is answered again from its beginning: what a case gets depends on those before it.

    Args:
        plan: what is to be compared.
        done: rows that are there.
        sizes: how many cases each domain has, by its label; a domain that is not in it is left out.
    """
    places = [d for d in plan.places() if d.label in sizes]
    for checkpoint, domain in ((c, d) for c in plan.checkpoints for d in places):
        for budget, seed in ((b, s) for b in plan.budgets for s in plan.seeds):
            numbers = tuple(range(sizes[domain.label]))
            all_agree = ComparisonJob(plan, checkpoint, domain, numbers, tuple(plan.contenders()), budget, seed)
            streams = [c for c in all_agree.contenders if c.choices.get("reset") == "never"]
            for stream in streams:
                if any(all_agree.key(stream, n) not in done for n in numbers):
                    yield replace(all_agree, contenders=(stream,))
            for n in numbers:
                missing = tuple(c for c in all_agree.contenders if c not in streams and all_agree.key(c, n) not in done)
                if missing:
                    yield replace(all_agree, numbers=(n,), contenders=missing)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]
