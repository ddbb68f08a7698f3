"""What is compared: methods and their controls, and the domains that a bundle's ``configs/compare.yaml`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_tta.pipeline.bundle import BundleError


@dataclass(frozen=True)
class Domain:
    """Where the cases come from: the bundle's evaluate config with these keys set, maybe through a simulated scanner.

    ``shift`` is the path of a `ScannerShift` class; case k is shifted with seed k.
    """

    label: str
    keys: dict[str, Any] = field(default_factory=dict)
    shift: str | None = None
    severity: int = 3


@dataclass(frozen=True)
class Protocol:
    """A bundle's ``configs/compare.yaml``: domains, the restyling's style, the mirrors the source was trained with, before
    which transforms of the bundle's preprocessing the simulated scanner stands, the labels' names, how far off a border is
    still right for NSD (``tolerance``), and the unit of lengths ("mm", or "pixels" where images know no spacing)."""

    domains: tuple[Domain, ...]
    style: Any = "auto"
    mirrors: tuple[int, ...] | None = None
    before: tuple[str, ...] = ("NormalizeIntensityd", "ScaleIntensityRanged")
    labels: tuple[str, ...] = ()
    tolerance: float = 1.0
    unit: str = "mm"


def protocol_of(root: Path) -> Protocol:
    """Read a bundle's protocol.

    Raises:
        BundleError: when it has none, or one with unknown entries.
    """
    file = root / "configs" / "compare.yaml"
    if not file.is_file():
        raise BundleError(f"{root} has no configs/compare.yaml, which names the domains to compare on")
    said = ConfigParser.load_config_file(str(file))
    try:
        said["domains"] = tuple(Domain(**d) for d in said["domains"])
        entries: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return Protocol(**entries)
    except (KeyError, TypeError) as error:
        raise BundleError(f"{file}: {error}") from error


def chosen_domains(protocol: Protocol, names: Sequence[str] = (), severities: Sequence[int] = ()) -> list[Domain]:
    """The protocol's domains: all, or those named; simulated scanners at these severities instead of their own.

    Raises:
        BundleError: for a name that is no domain's, or a severity that is none of 1 to 5.
    """
    known = {d.label: d for d in protocol.domains}
    refuse_unknown("domain", names, known)
    if wrong := [s for s in severities if s not in range(1, 6)]:
        raise BundleError(f"no severity {wrong[0]}; there are: 1; 2; 3; 4; 5")
    chosen = [known[name] for name in dict.fromkeys(names or known)]
    several = [[at_severity(d, s) for s in severities] if d.shift and severities else [d] for d in chosen]
    return list({d.label: d for domains in several for d in domains}.values())


def at_severity(domain: Domain, severity: int) -> Domain:
    """The same simulated scanner at another severity, which its label says: "HazeShift 3" becomes "HazeShift 5"."""
    label = domain.label.removesuffix(f" {domain.severity}")
    return replace(domain, label=f"{label} {severity}", severity=severity)


def refuse_unknown(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    """Refuse a name that is not known, and list those that are.

    Raises:
        BundleError: for an unknown name.
    """
    for name in names:
        if name not in known:
            raise BundleError(f"no {kind} {name!r}; there are: {'; '.join(known)}")
