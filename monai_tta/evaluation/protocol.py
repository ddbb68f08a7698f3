"""What is compared on: the domains that a bundle's ``configs/compare.yaml`` names, and how answers are scored there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_tta.pipeline.bundle_config import BundleError, as_bundle_error
from monai_tta.pipeline.nnunet_files import is_nnunet_folder


@dataclass(frozen=True)
class Domain:
    """A set of labelled cases, maybe seen through a simulated scanner.

    Args:
        label: what tables call it.
        keys: of the bundle's evaluate config, which lists the cases when these are set. DATA in a text is the folder of the data.
        shift: the import path of a `ScannerShift` class, or None. Case k is shifted with seed k.
        severity: of the shift, 1 to 5.
    """

    label: str
    keys: dict[str, Any] = field(default_factory=dict)
    shift: str | None = None
    severity: int = 3


@dataclass(frozen=True)
class Protocol:
    """A bundle's ``configs/compare.yaml``.

    Args:
        domains: what to compare on.
        style: of the restyling that methods use.
        mirrors: the axes along which training images were mirrored, or None where that is unknown.
        before: the simulated scanner stands before the first of these transforms of the bundle's preprocessing.
        labels: the names of the structures, in the order of the scores.
        tolerance: NSD counts a border as right up to this distance, in the unit of lengths; one, or one for each structure.
        unit: of lengths: "mm", or "pixels" where images have no spacing.
    """

    domains: tuple[Domain, ...]
    style: Any = "auto"
    mirrors: tuple[int, ...] | None = None
    before: tuple[str, ...] = ("NormalizeIntensityd", "ScaleIntensityRanged")
    labels: tuple[str, ...] = ()
    tolerance: float | tuple[float, ...] = 1.0
    unit: str = "mm"


def has_protocol(root: Path) -> bool:
    """Whether `protocol_of` finds a protocol: an nnU-Net has one always, a bundle where it has ``configs/compare.yaml``.

    Args:
        root: the folder of the bundle, or of the nnU-Net.
    """
    return is_nnunet_folder(root) or _file_of(root).is_file()


def _file_of(root: Path) -> Path:
    return root / "configs" / "compare.yaml"


def protocol_of(root: Path) -> Protocol:
    """Read a bundle's protocol. An nnU-Net's follows from its plans.

    Args:
        root: the folder of the bundle, or of the nnU-Net.

    Raises:
        BundleError: for a bundle without one, or one with unknown entries.
    """
    if is_nnunet_folder(root):
        from monai_tta.evaluation.nnunet_labelled import nnunet_protocol  # which imports this file

        return nnunet_protocol(root)
    file = _file_of(root)
    if not file.is_file():
        raise BundleError(f"{root} has no configs/compare.yaml, which names the domains to compare on")
    with as_bundle_error("a comparison", file):
        config = ConfigParser.load_config_file(str(file))
    if not isinstance(config, dict) or not isinstance(config.get("domains"), list):
        raise BundleError(f"{file} must hold a list of domains under `domains`, each with a label and keys")
    try:
        domains = tuple(Domain(**domain) for domain in config["domains"])
        entries: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in config.items()}
        return Protocol(**entries | {"domains": domains})
    except (KeyError, TypeError) as error:
        raise BundleError(f"{file} has an entry that no comparison knows, or lacks one: {error}") from error


def chosen_domains(protocol: Protocol, names: Sequence[str] = (), severities: Sequence[int] = ()) -> list[Domain]:
    """The named domains of a protocol, or all; simulated scanners at these severities in place of their own.

    Raises:
        BundleError: for an unknown name, or a severity other than 1 to 5.
    """
    known = {domain.label: domain for domain in protocol.domains}
    refuse_unknown("domain", names, known)
    if wrong := [severity for severity in severities if severity not in range(1, 6)]:
        raise BundleError(f"no severity {wrong[0]}; there are: 1; 2; 3; 4; 5")
    chosen: dict[str, Domain] = {}
    for name in names or known:
        domain = known[name]
        variants = [at_severity(domain, severity) for severity in severities] if domain.shift and severities else [domain]
        chosen |= {variant.label: variant for variant in variants}
    return list(chosen.values())


def at_severity(domain: Domain, severity: int) -> Domain:
    """The same simulated scanner at another severity, which its label says: "HazeShift 3" becomes "HazeShift 5"."""
    label = domain.label.removesuffix(f" {domain.severity}")
    return replace(domain, label=f"{label} {severity}", severity=severity)


def refuse_unknown(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    """Check names against the known ones.

    Raises:
        BundleError: for an unknown name; the message lists the known ones.
    """
    for name in names:
        if name not in known:
            raise BundleError(f"no {kind} {name!r}; there are: {'; '.join(known)}")
