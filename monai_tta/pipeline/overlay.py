"""Look at a MONAI bundle, say what adapting it would mean, and write the overlay that does it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.selection import Auto
from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import unwrap
from monai_tta.pipeline.bundle import BundleError, read_bundle
from monai_tta.pipeline.bundle_config import NO_CHANGES
from monai_tta.pipeline.checkpoint import named_checkpoint
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.output_head import head_of, takes_main_only

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
        network: its class; in words where there is none to look at.
        postprocessing: id of its section; None where there is none.
        selected: the selection that finds what may move; None where nothing may.
        tensors: how many tensors it finds.
        scalars: how many numbers these hold.
        total: how many numbers the network's parameters hold.
        norm_layers: layers that normalise, by class, e.g. ``{"BatchNorm3d": 4}``.
        with_running_stats: how many of these hold the source's statistics, so that there is a choice.
        problems: what will not work, and why.
    """

    config: str
    evaluator: str | None
    inferer: Any
    inferer_kind: str
    head: str | None
    network: str
    postprocessing: str | None = None
    selected: str | None = None
    tensors: int = 0
    scalars: int = 0
    total: int = 0
    norm_layers: dict[str, int] = field(default_factory=dict)
    with_running_stats: int = 0
    problems: tuple[str, ...] = ()

    def lines(self) -> list[tuple[str, str]]:
        """Names and values, to be shown to a person."""
        share = f" of {self.total:,} ({self.scalars / self.total:.2%})" if self.total else ""
        moving = f"{self.tensors} tensors, {self.scalars:,} scalars{share}, by {self.selected}"
        return [
            ("config", self.config),
            ("inferer", f"{self.inferer_kind} ({self.evaluator}#inferer)" if self.evaluator else self.inferer_kind),
            ("head", self.head or "the postprocessing does not say: give --head"),
            ("network", self.network),
            ("would move", moving if self.selected else "nothing" if self.total else "not known"),
            ("statistics", self._statistics() if self.total else "not known"),
            *[("will not work", problem) for problem in self.problems],
        ]

    def _statistics(self) -> str:
        """Whose statistics the network's layers normalise by, and where there is a choice."""
        if not self.norm_layers:
            return "no layer normalises"
        layers = ", ".join(f"{count} {kind}" for kind, count in self.norm_layers.items())
        always = sum(self.norm_layers.values()) - self.with_running_stats
        parts = []
        if self.with_running_stats:
            parts.append(f"{self.with_running_stats} hold the source's, and can use the image's own or a blend")
        if always:
            parts.append(f"{always} always use the image's own, with nothing of the source to blend with")
        return f"{layers}: {'; '.join(parts)}"


def look(root: Path, head: str | None = None, changes: ConfigChanges = NO_CHANGES) -> Findings:
    """Read a bundle's inference config, build its network (without weights) and see what adaptation would do.

    Args:
        root: the bundle's folder.
        head: "softmax" or "sigmoid" where the bundle's postprocessing does not say.
        changes: what is laid over the bundle's config.

    Raises:
        BundleError: for a bundle without an inference config, or a change of what is not there.
    """
    if head not in (None, "softmax", "sigmoid"):
        raise ValueError(f"head is 'softmax' or 'sigmoid', found {head!r}")
    parser, config = read_bundle(root, changes)
    problems: list[str] = []
    evaluator = _first_section(parser, "evaluator", "validate#evaluator")
    if evaluator is None:
        problems.append("no `evaluator` section: nothing to give the inferer to; wrap it in Python instead")
    _check_weights(parser, root, problems)
    inferer = (_at(parser, f"{evaluator}#inferer") if evaluator else None) or _at(parser, "inferer")
    if inferer is None:
        problems.append("no inferer found: MONAI's SimpleInferer is assumed")
        inferer = {"_target_": "SimpleInferer"}
    kind, network = _network(parser, problems)
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
        network=kind,
        postprocessing=_first_section(parser, "postprocessing", "validate#postprocessing"),
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
    takes = {"_target_": f"{takes_main_only.__module__}.{takes_main_only.__name__}"}
    main_only = {"main_only": takes | {"postprocessing": f"@{findings.postprocessing}"}} if findings.postprocessing else {}
    sections = {
        "adaptive_inferer": {"_target_": ADAPTIVE, "inferer": findings.inferer, "head": findings.head} | main_only,
        f"{findings.evaluator}#inferer": "@adaptive_inferer",
    }
    kind = findings.network if findings.total else "the network"
    note = f"# Lay over {Path(findings.config).name}: adapts {kind} to each image before it segments it.\n"
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


def _check_weights(parser: ConfigParser, root: Path, problems: list[str]) -> None:
    """Note that the checkpoint is missing which the config names, or the usual one where it names none."""
    try:
        named = named_checkpoint(parser, root)
    except BundleError as error:
        problems.append(str(error))
        return
    if not named.path.is_file():
        which = f"{named.by} names {named.path.name}, which" if named.by else f"models/{named.path.name}"
        problems.append(f"no weights: {which} does not exist; train the bundle or put them there")


def _network(parser: ConfigParser, problems: list[str]) -> tuple[str, nn.Module | None]:
    """The network's class and the network without weights; words and None where there is none to look at, which is a problem."""
    section = _first_section(parser, "network_def", "network", "net")
    if section is None:
        problems.append("no `network_def`, `network` or `net` section: what would move is not known")
        return "not found", None
    try:
        parser.parse()
        network = unwrap(parser.get_parsed_content(section))
    except CannotAdapt as reason:
        problems.append(str(reason))
        return "hides its layers", None
    except (Exception, SystemExit) as error:  # a config can run any code, which can raise anything
        problems.append(f"the network ({section}) cannot be built here: {describe_error(error)}; what would move is not known")
        return "cannot be built", None
    return type(network).__name__, network


def _adaptable(network: nn.Module, problems: list[str]) -> dict[str, Any]:
    """What would move, and the statistics that there are, as fields of `Findings`."""
    total = sum(p.numel() for p in network.parameters())
    try:
        shadow = Shadow(network, "softmax", Auto(), "window")
    except Exception as reason:  # a network's own code runs when it is copied
        problems.append(str(reason) if isinstance(reason, CannotAdapt) else describe_error(reason))
        return {"total": total}
    layers = [m for m in network.modules() if isinstance(m, _NormBase | nn.GroupNorm | nn.LayerNorm)]
    return {
        "selected": shadow.selected,
        "tensors": len(shadow.moving),
        "scalars": sum(t.numel() for t in shadow.moving),
        "total": total,
        "norm_layers": dict(Counter(type(layer).__name__ for layer in layers)),
        "with_running_stats": sum(getattr(layer, "running_mean", None) is not None for layer in layers),
    }


def _head(parser: ConfigParser, problems: list[str]) -> str | None:
    """What the bundle's postprocessing says; "sigmoid" for one output channel; else None."""
    section = _first_section(parser, "postprocessing", "validate#postprocessing")
    head = "auto"
    try:
        if section:
            head = head_of(parser.get_parsed_content(section))
    except (Exception, SystemExit) as error:  # the bundle's own transforms may need what is not installed
        problems.append(f"the postprocessing cannot be built: {describe_error(error)}")
    if head != "auto":
        return head
    channels = _at(parser, "_meta_#network_data_format#outputs#pred#num_channels")
    return "sigmoid" if channels == 1 else None
