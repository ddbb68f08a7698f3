"""Look at a MONAI bundle, say what adapting it would mean, and write the overlay that does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from torch import nn

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.selection import Auto
from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import unwrap
from monai_tta.pipeline.bundle import BundleError, read_bundle
from monai_tta.pipeline.bundle_config import NO_CHANGES
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.output_head import head_of

ADAPTIVE = "monai_tta.AdaptiveInferer"


@dataclass(frozen=True)
class Findings:
    """What a bundle holds that matters to adaptation.

    Args:
        config: the inference config's file.
        evaluator: id of the section whose inferer is to be wrapped; None where there is none.
        inferer: what is there now: a reference ("@inferer") or a definition.
        inferer_kind: its class.
        head: "softmax", "sigmoid", or None where the bundle does not say.
        network: its class.
        selected: the selection that finds what may move; None where nothing may.
        tensors: how many tensors it finds.
        scalars: how many numbers these hold.
        total: how many numbers the network's parameters hold.
        norm_layers: layers that can use the image's own statistics.
        with_running_stats: how many of these hold the source's statistics.
        problems: what will not work, and why.
    """

    config: str
    evaluator: str | None
    inferer: Any
    inferer_kind: str
    head: str | None
    network: str
    selected: str | None = None
    tensors: int = 0
    scalars: int = 0
    total: int = 0
    norm_layers: int = 0
    with_running_stats: int = 0
    problems: tuple[str, ...] = ()

    def lines(self) -> list[tuple[str, str]]:
        """Names and values, to be shown to a person."""
        share = f" of {self.total:,} ({self.scalars / self.total:.2%})" if self.total else ""
        moving = f"{self.tensors} tensors, {self.scalars:,} scalars{share}, by {self.selected}"
        own = f"{self.norm_layers} layers can use the image's own"
        statistics = f"{own}, {self.with_running_stats} of them hold the source's to blend with"
        return [
            ("config", self.config),
            ("inferer", f"{self.inferer_kind} ({self.evaluator}#inferer)" if self.evaluator else self.inferer_kind),
            ("head", self.head or "the postprocessing does not say: give --head"),
            ("network", self.network),
            ("would move", moving if self.selected else "nothing"),
            ("statistics", statistics if self.norm_layers else "no layer uses any"),
            *[("will not work", problem) for problem in self.problems],
        ]


def look(root: Path, head: str | None = None, changes: ConfigChanges = NO_CHANGES) -> Findings:
    """Read a bundle's inference config, build its network (without weights) and see what adaptation would do.

    Args:
        root: the bundle's folder.
        head: "softmax" or "sigmoid" where the bundle's postprocessing does not say.
        changes: what is laid over the bundle's config.

    Raises:
        BundleError: for a bundle without an inference config, or one whose network cannot be built.
    """
    if head not in (None, "softmax", "sigmoid"):
        raise ValueError(f"head is 'softmax' or 'sigmoid', found {head!r}")
    parser, config = read_bundle(root, changes)
    problems: list[str] = []
    evaluator = _first_section(parser, "evaluator", "validate#evaluator")
    if evaluator is None:
        problems.append("no `evaluator` section: nothing to give the inferer to; wrap it in Python instead")
    if not any((root / "models").glob("*.pt")):
        problems.append("no weights in models: train the bundle or put them there")
    inferer = (_at(parser, f"{evaluator}#inferer") if evaluator else None) or _at(parser, "inferer")
    if inferer is None:
        problems.append("no inferer found: MONAI's SimpleInferer is assumed")
        inferer = {"_target_": "SimpleInferer"}
    network = _network(parser, config)
    found = {} if network is None else _adaptable(network, problems)
    known_head = head or _head(parser, problems)
    if known_head is None:
        problems.append("cannot tell softmax from sigmoid: give --head")
    return Findings(
        config=str(config),
        evaluator=evaluator,
        inferer=inferer,
        inferer_kind=_class_of(parser, inferer),
        head=known_head,
        network="not found" if network is None else type(network).__name__,
        **found,
        problems=tuple(problems),
    )


def overlay(findings: Findings) -> str:
    """The overlay as YAML.

    Args:
        findings: what was found of a bundle.

    Raises:
        BundleError: when the bundle has no evaluator, or its head is not known.
    """
    if findings.evaluator is None or findings.head is None:
        raise BundleError("; ".join(findings.problems))
    sections = {
        "adaptive_inferer": {"_target_": ADAPTIVE, "inferer": findings.inferer, "head": findings.head},
        f"{findings.evaluator}#inferer": "@adaptive_inferer",
    }
    note = f"# Lay over {Path(findings.config).name}: adapts {findings.network} to each image before it segments it.\n"
    return note + yaml.safe_dump(sections, sort_keys=False)


def _at(parser: ConfigParser, section: str) -> Any:
    """A section by its id, or None."""
    try:
        return parser[section]
    except (KeyError, ValueError):
        return None


def _first_section(parser: ConfigParser, *sections: str) -> str | None:
    """The first of these ids that the config has."""
    return next((section for section in sections if _at(parser, section) is not None), None)


def _class_of(parser: ConfigParser, section: Any) -> str:
    """The inferer's class, also where its section refers to another."""
    while isinstance(section, str) and section.startswith("@"):
        section = _at(parser, section[1:])
    return str(section.get("_target_", "unknown")) if isinstance(section, dict) else str(section)


def _network(parser: ConfigParser, config: Path) -> nn.Module | None:
    """The network without weights; None where there is none, or its layers are hidden."""
    section = _first_section(parser, "network_def", "network", "net")
    if section is None:
        return None
    try:
        parser.parse()
        return unwrap(parser.get_parsed_content(section))
    except CannotAdapt:
        return None
    except (Exception, SystemExit) as error:  # a config can run any code, which can raise anything
        raise BundleError(f"{config}: the network ({section!r}) cannot be built: {describe_error(error)}") from error


def _adaptable(network: nn.Module, problems: list[str]) -> dict[str, Any]:
    """What would move, and the statistics that there are, as fields of `Findings`."""
    total = sum(p.numel() for p in network.parameters())
    try:
        shadow = Shadow(network, "softmax", Auto(), "window")
    except CannotAdapt as reason:
        problems.append(str(reason))
        return {"total": total}
    norm_layers = [m for m in shadow.module.modules() if isinstance(m, AdaptiveNorm)]
    return {
        "selected": shadow.selected,
        "tensors": len(shadow.moving),
        "scalars": sum(t.numel() for t in shadow.moving),
        "total": total,
        "norm_layers": len(norm_layers),
        "with_running_stats": sum(layer.has_running_stats for layer in norm_layers),
    }


def _head(parser: ConfigParser, problems: list[str]) -> str | None:
    """What the bundle's postprocessing says; "sigmoid" for one output channel; else None."""
    section = _first_section(parser, "postprocessing", "validate#postprocessing")
    head = "auto"
    try:
        if section:
            head = head_of(parser.get_parsed_content(section))
    except Exception as error:  # the bundle's own transforms may need what is not installed
        problems.append(f"the postprocessing cannot be built: {describe_error(error)}")
    if head != "auto":
        return head
    channels = _at(parser, "_meta_#network_data_format#outputs#pred#num_channels")
    return "sigmoid" if channels == 1 else None
