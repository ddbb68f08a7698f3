"""Look at a MONAI bundle and say what adapting it would mean; write the overlay that does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from torch import nn

from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.selection import Auto
from monai_tta.core.shadow import CannotAdapt, Shadow
from monai_tta.inference.network import unwrap
from monai_tta.pipeline.bundle import BundleError, read_bundle
from monai_tta.pipeline.output_head import head_of

ADAPTIVE = "monai_tta.AdaptiveInferer"


@dataclass(frozen=True)
class Findings:
    """What a bundle holds, as far as adaptation goes.

    ``evaluator`` is the id of the section whose inferer is to be wrapped; ``inferer`` what is there now, a reference
    ("@inferer") or a definition; ``head`` None when the bundle doesn't say; ``remembering`` counts layers that hold
    source statistics; ``problems`` say what will not work, and why.
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
    remembering: int = 0
    norms: int = 0
    problems: tuple[str, ...] = ()

    def lines(self) -> list[tuple[str, str]]:
        """Names and values, to be shown."""
        share = f" of {self.total:,} ({self.scalars / self.total:.2%})" if self.total else ""
        moving = f"{self.tensors} tensors, {self.scalars:,} scalars{share}, by {self.selected}"
        statistics = f"{self.norms} layers can use the image's own, {self.remembering} of them hold the source's to blend with"
        return [
            ("config", self.config),
            ("inferer", f"{self.inferer_kind} ({self.evaluator}#inferer)" if self.evaluator else self.inferer_kind),
            ("head", self.head or "not said by the postprocessing: give --head"),
            ("network", self.network),
            ("would move", moving if self.selected else "nothing"),
            ("statistics", statistics if self.norms else "no layer uses any"),
            *[("will not work", problem) for problem in self.problems],
        ]


def look(root: Path, head: str | None = None) -> Findings:
    """Read a bundle's inference config, build its network (without weights) and see what adaptation would do.

    Args:
        root: the bundle's folder.
        head: "softmax" or "sigmoid" where the bundle's postprocessing doesn't say.

    Raises:
        BundleError: when there is no inference config, or its network cannot be built.
    """
    parser, config = read_bundle(root)
    problems = []
    evaluator = next((e for e in ("evaluator", "validate#evaluator") if _at(parser, e) is not None), None)
    if evaluator is None:
        problems.append("no `evaluator` section: nothing to give the inferer to; wrap it in Python instead")
    if not any((root / "models").glob("*.pt")):
        problems.append("no weights in models: train the bundle or put them there")
    inferer = (_at(parser, f"{evaluator}#inferer") if evaluator else None) or _at(parser, "inferer")
    if inferer is None:
        problems.append("no inferer found: MONAI's SimpleInferer is assumed")
        inferer = {"_target_": "SimpleInferer"}
    network = _network(parser, config)
    found = {} if network is None else _moving(network, problems)
    said = head or _head(parser, problems)
    if said is None:
        problems.append("cannot tell softmax from sigmoid: give --head")
    kind = network.__class__.__name__ if network is not None else "not found"
    return Findings(str(config), evaluator, inferer, _kind(parser, inferer), said, kind, **found, problems=tuple(problems))


def overlay(findings: Findings) -> str:
    """The overlay as YAML.

    Raises:
        BundleError: when the findings do not suffice for one.
    """
    if findings.evaluator is None or findings.head is None:
        raise BundleError("; ".join(findings.problems))
    sections = {
        "adaptive_inferer": {"_target_": ADAPTIVE, "inferer": findings.inferer, "head": findings.head},
        f"{findings.evaluator}#inferer": "@adaptive_inferer",
    }
    note = f"# Lay over {Path(findings.config).name}: adapts {findings.network} to each image before it answers.\n"
    return note + yaml.safe_dump(sections, sort_keys=False)


def _at(parser: ConfigParser, place: str) -> Any:
    """A section by its id, or None."""
    try:
        return parser[place]
    except (KeyError, ValueError):
        return None


def _kind(parser: ConfigParser, inferer: Any) -> str:
    """The inferer's class, through a reference."""
    while isinstance(inferer, str) and inferer.startswith("@"):
        inferer = _at(parser, inferer[1:])
    return str(inferer.get("_target_", "unknown")) if isinstance(inferer, dict) else str(inferer)


def _network(parser: ConfigParser, config: Path) -> nn.Module | None:
    """The network, built but without weights."""
    place = next((p for p in ("network_def", "network", "net") if _at(parser, p) is not None), None)
    if place is None:
        return None
    try:
        parser.parse()
        return unwrap(parser.get_parsed_content(place))
    except CannotAdapt:
        return None
    except Exception as error:  # anything a config may do while it is being built
        raise BundleError(f"{config}: the network ({place!r}) cannot be built: {type(error).__name__}: {error}") from error


def _moving(network: nn.Module, problems: list[str]) -> dict[str, Any]:
    """What would move, and whose statistics there are."""
    total = sum(p.numel() for p in network.parameters())
    try:
        shadow = Shadow(network, "softmax", Auto(), "window")
    except CannotAdapt as reason:
        problems.append(str(reason))
        return {"total": total}
    norms = [m for m in shadow.module.modules() if isinstance(m, AdaptiveNorm)]
    return {
        "selected": shadow.selected,
        "tensors": len(shadow.moving),
        "scalars": sum(t.numel() for t in shadow.moving),
        "total": total,
        "norms": len(norms),
        "remembering": sum(m.has_running_stats for m in norms),
    }


def _head(parser: ConfigParser, problems: list[str]) -> str | None:
    """What the bundle's postprocessing says; one output channel is always a sigmoid's."""
    section = next((p for p in ("postprocessing", "validate#postprocessing") if _at(parser, p) is not None), None)
    try:
        said = head_of(parser.get_parsed_content(section)) if section else "auto"
    except Exception as error:  # transforms of the bundle's own may need what is not here
        problems.append(f"the postprocessing cannot be built: {type(error).__name__}: {error}")
        said = "auto"
    channels = _at(parser, "_meta_#network_data_format#outputs#pred#num_channels")
    return said if said != "auto" else "sigmoid" if channels == 1 else None
