"""The plan of a comparison, and the jobs that it consists of."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

from monai_tta._version import __version__
from monai_tta.compute.precision import Precision
from monai_tta.core.fisher_file import fisher_file
from monai_tta.core.learned_optimizer_file import optimizer_file
from monai_tta.core.stored_features import features_file
from monai_tta.evaluation.contenders import Contender, chosen_contenders
from monai_tta.evaluation.protocol import Domain, chosen_domains, protocol_of
from monai_tta.guards.reference_ranges import reference_file
from monai_tta.pipeline.bundle_config import NO_CHANGES, BundleError, config_file, read_parser
from monai_tta.pipeline.bundle_predictor import check_predictor_config
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.nnunet_files import is_nnunet_folder
from monai_tta.pipeline.source_files import description_files, weights_file, weights_files
from monai_tta.quality.predictor_files import predictor_file, quality_file
from monai_tta.quality.signals import SIGNALS
from monai_tta.reporting.rows import METRICS

SET_ASIDE = 3  # one of so many cases


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """What to compare, and on what. Without names it is everything.

    Args:
        root: a bundle with ``configs/evaluate.yaml`` and ``configs/compare.yaml``.
        dataset_dir: the labelled data, called DATA in ``compare.yaml``.
        checkpoints: names of files in the bundle's ``models``.
        only: labels of contenders; Source is always compared.
        domains: labels of domains.
        severities: 1 to 5, of each simulated scanner, in place of the protocol's own.
        budgets: on how many windows of a volume a method adapts; 0 for all.
        seeds: each draws other simulated scanners and other random numbers for the methods.
        ablations: whether to add the contenders of `monai_tta.evaluation.contenders.ABLATIONS`.
        metrics: which of "dice", "nsd", "hd95", "assd" to compute; "dice" is needed.
        precision: of `AdaptiveInferer`: "exact" or "fast".
        pictures: whether to draw example cases at the end. The pictures hold pixels of the images.
        limit: cases of each domain at most, the first of its list; None for all.
        signals: whether to measure the signals of each answer, see `monai_tta.quality.signals`.
        device: where networks compute, e.g. "cuda:0"; None for where the bundle puts its network.
        changes: what is laid over the bundle's configs; a domain's own keys cannot be changed.
        more: contenders besides those that have names.
        part: "all" cases of a domain; of what simulated scanners show, every third ("choice", for rates); or the rest ("report").

    Raises:
        ValueError: for an unknown metric, budget, precision, contender, domain, severity, device or limit, a change of what a
            domain sets, or a gain predictor of another config.
    """

    COMMAND: ClassVar[str] = "compare"
    ONLY: ClassVar[str] = "only"  # the option that names contenders

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
    pictures: bool = False
    limit: int | None = None
    signals: bool = False
    device: str | None = None
    changes: ConfigChanges = NO_CHANGES
    more: tuple[Contender, ...] = ()
    part: Literal["all", "choice", "report"] = "all"

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"no metric {name!r}; there are: {'; '.join(METRICS)}")
        if "dice" not in self.metrics:
            raise ValueError(f"the tables show changes of Dice: add dice to {', '.join(self.metrics)}")
        if wrong := [b for b in self.budgets if b < 0]:
            raise ValueError(f"a budget is a number of windows, or 0 for all; found {wrong[0]}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"a limit is a number of cases, at least 1; found {self.limit}")
        if self.precision not in ("exact", "fast"):
            raise ValueError(f"precision must be one of ('exact', 'fast'), found {self.precision!r}")
        if self.device is not None:
            usable_device(self.device)
        self._check_changes(self.contenders(), self.places())

    def _check_changes(self, contenders: list[Contender], places: list[Domain]) -> None:
        """Refuse changes of what a domain sets, and gain predictors that were calibrated with others."""
        changed = self.changes.values()
        for domain in places:
            if own := [name for name in changed if name in domain.keys]:
                raise BundleError(
                    f"--set {own[0]}: the domain {domain.label!r} of compare.yaml sets it; choose domains by --domain"
                )
        for weights in (weights_file(self.root, name) for name in self.checkpoints):
            for contender in contenders:
                check_predictor_config(weights, contender.method.for_checkpoint(weights), self.root, self.changes)

    def contenders(self) -> list[Contender]:
        """The contenders, Source first."""
        return [*chosen_contenders(protocol_of(self.root), self.only, self.ablations), *self.more]

    def numbers(self, domain: Domain, size: int) -> tuple[int, ...]:
        """Which cases of a domain are compared.

        Args:
            domain: one of `places`.
            size: how many cases it has.

        Raises:
            BundleError: where so few cases are there that none is left for a part.
        """
        every = range(size if self.limit is None else min(self.limit, size))
        simulated = [other.keys for other in protocol_of(self.root).domains if other.shift]
        if self.part == "all" or domain.keys not in simulated:
            return tuple(every)
        chosen = tuple(n for n in every if (n % SET_ASIDE == SET_ASIDE - 1) == (self.part == "choice"))
        if not chosen:
            raise BundleError(f"{domain.label} has {len(every)} cases; at least {SET_ASIDE} are needed to choose learning rates")
        return chosen

    def places(self) -> list[Domain]:
        """The domains."""
        return chosen_domains(protocol_of(self.root), self.domains, self.severities)

    def settings(self) -> dict[str, Any]:
        """What the rows of one file must have in common, see `RowFile.settle`. The domains' cases come from `LabelledDomain`."""
        protocol = protocol_of(self.root)
        configs = self._configs()
        files = [file for name in self.checkpoints for file in weights_files(self.root, name)]
        places = [predictor_file, optimizer_file, features_file, fisher_file]
        places += [reference_file, quality_file] if self.signals else []
        files += [beside(weights_file(self.root, name)) for name in self.checkpoints for beside in places]
        known = [*chosen_contenders(protocol, ablations=True), *self.contenders()]
        return {
            "bundle": self.root.resolve().name,
            "configs": sha256(b"\n".join(configs)).hexdigest()[:16],
            **self.changes.settings(self.root),
            "labels": protocol.labels,
            "before": protocol.before,
            "tolerance": protocol.tolerance,
            "unit": protocol.unit,
            "metrics": [name for name in METRICS if name in self.metrics],
            "precision": self.precision,
            "signals": [signal.name for signal in SIGNALS] if self.signals else [],
            **({} if self.device is None else {"device": self.device}),
            "part": self.part,
            "versions": {"monai_tta": __version__, **{name: version(name) for name in self._packages()}},
            "checkpoints": {self._name(path): _digest(path) for path in files if path.is_file()},
            "contenders": {c.label: f"{c.method!r} {c.choices}" for c in known},
        }

    def _configs(self) -> list[bytes]:
        """What the configs hold. What cannot be read is told before anything is written."""
        if is_nnunet_folder(self.root):
            return [file.read_bytes() for file in description_files(self.root)]
        read_parser(self.root, "inference", "evaluate", changes=self.changes)
        return [config_file(self.root, name).read_bytes() for name in ("inference", "evaluate")]

    def _packages(self) -> tuple[str, ...]:
        return ("monai", "torch", "numpy", *(("nnunetv2",) if is_nnunet_folder(self.root) else ()))

    def _name(self, weights: Path) -> str:
        """What a file of weights is called: of an nnU-Net with its fold."""
        return f"{weights.parent.name}/{weights.name}" if is_nnunet_folder(self.root) else weights.name

    def command(self) -> str:
        """The command line of this plan, with the options that differ from their defaults.

        Paths are left out, since they may name a patient: the data are DATA, the folder of the results is OUT.
        """
        words = ["monai-tta", self.COMMAND, self.root.resolve().name, "--dataset-dir", "DATA", "--out", "OUT"]
        options = {"checkpoints": "checkpoint", "only": self.ONLY, "domains": "domain", "severities": "severity"}
        options |= {"budgets": "budget", "seeds": "seed"}
        defaults = {field.name: field.default for field in fields(self)}
        for name, option in options.items():
            if (values := getattr(self, name)) != defaults[name]:
                words += [word for value in values for word in (f"--{option}", str(value))]
        words += ["--metrics", ",".join(self.metrics)] if self.metrics != defaults["metrics"] else []
        words += ["--precision", self.precision] if self.precision != defaults["precision"] else []
        words += [] if self.limit is None else ["--limit", str(self.limit)]
        words += [] if self.device is None else ["--device", self.device]
        words += self.changes.words()
        words += [f"--{flag}" for flag in ("ablations", "pictures") if getattr(self, flag)]
        words += [] if self.part == "all" else ["--choose-rates"]
        return shlex.join(words)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]
