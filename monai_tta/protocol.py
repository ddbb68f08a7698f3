"""What is compared: methods and their controls, and the domains that a bundle's ``configs/compare.yaml`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_tta import methods
from monai_tta.bundle import BundleError
from monai_tta.method import AdaptationMethod
from monai_tta.methods import Careful, Consistency, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.tasks import ConsistencyTask
from monai_tta.updates import Adam, RandomSign
from monai_tta.views import Restyling, Views

BETA = 1e-4  # the rate of the GraTa paper
# GraTa without its gradients; without its look-ahead, also at the rate of a cosine of 0; without the sign of its cosine.
ABLATIONS = ("Statistics, window, blend 1.0", "Consistency, beta", "Consistency, beta/4", "GraTa, random sign")


@dataclass(frozen=True)
class Contender:
    """A method with the choices it is run under; all get the same windows and budget."""

    label: str
    method: AdaptationMethod
    choices: dict[str, Any] = field(default_factory=dict)


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
    _refuse_unknown("domain", names, known)
    if wrong := [s for s in severities if s not in range(1, 6)]:
        raise BundleError(f"no severity {wrong[0]}; there are: 1; 2; 3; 4; 5")
    chosen = [known[name] for name in dict.fromkeys(names or known)]
    several = [[at_severity(d, s) for s in severities] if d.shift and severities else [d] for d in chosen]
    return list({d.label: d for domains in several for d in domains}.values())


def at_severity(domain: Domain, severity: int) -> Domain:
    """The same simulated scanner at another severity, which its label says: "HazeShift 3" becomes "HazeShift 5"."""
    label = domain.label.removesuffix(f" {domain.severity}")
    return replace(domain, label=f"{label} {severity}", severity=severity)


def chosen_contenders(protocol: Protocol, names: Sequence[str] = (), ablations: bool = False) -> list[Contender]:
    """Source and the contenders named, or all of `contenders`; with ``ablations``, the rows of `ABLATIONS`, too.

    Raises:
        BundleError: for a name that is no contender's.
    """
    known = {c.label: c for c in [*contenders(protocol), *ablated(protocol)]}
    _refuse_unknown("row", names, known)
    named = {"Source", *(names or [c.label for c in contenders(protocol)]), *(ABLATIONS if ablations else ())}
    return [c for label, c in known.items() if label in named]


def ablated(protocol: Protocol) -> list[Contender]:
    """What is run only when asked for: GraTa that forgets whether its gradients agree or oppose each other."""
    task = ConsistencyTask(restyling=Restyling(protocol.style))
    return [Contender("GraTa, random sign", GraTa(pseudo=task, trust=RandomSign()))]


def _refuse_unknown(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise BundleError(f"no {kind} {name!r}; there are: {'; '.join(known)}")


def contenders(protocol: Protocol) -> list[Contender]:
    """GraTa, its parts and its controls, then every other exported method as it comes."""
    restyling = Restyling(protocol.style)
    task = ConsistencyTask(restyling=restyling)
    trained = Views(axes=protocol.mirrors, turns=False if protocol.mirrors else None)
    known = ConsistencyTask(restyling=restyling, views=trained)
    grata = partial(GraTa, pseudo=task)
    consistency = partial(Consistency, objective=task)
    never, window = {"reset": "never"}, {"learn": "window"}
    choosy = [
        Contender("View average, trained mirrors", ViewAverage(views=trained)),
        Contender("GraTa, trained mirrors", GraTa(pseudo=known)),
        Contender("GraTa, trained mirrors, 10 beta, 4 steps", GraTa(pseudo=known, optimizer=Adam(rate=10 * BETA), steps=4)),
    ]
    chosen = [
        Contender("Source", Source()),
        Contender("Careful", Careful()),
        Contender("Careful, from the front", Careful(thorough=False)),
        Contender("Careful, universal judge", Careful(judge="universal")),
        Contender("View average", ViewAverage()),
        *[Contender(f"Statistics, window, blend {b}", Statistics(blend=b)) for b in (0.1, 0.3, 1.0)],
        *[Contender(f"Statistics, volume, blend {b}", Statistics(blend=b, statistics="volume")) for b in (0.1, 0.3, 1.0)],
        Contender("Tent", Tent()),
        Contender("Consistency, beta", consistency(optimizer=Adam(rate=BETA))),
        Contender("Consistency, beta/4", consistency(optimizer=Adam(rate=BETA / 4))),
        Contender("GraTa", grata()),
        Contender("GraTa, 10 beta, 4 steps", grata(optimizer=Adam(rate=10 * BETA), steps=4)),
        Contender("GraTa, 4 steps", grata(steps=4)),
        Contender("GraTa, continual", grata(), never),
        Contender("GraTa, 4 steps, continual", grata(steps=4), never),
        Contender("GraTa, learn window", grata(), window),
        Contender("GraTa, learn window, continual", grata(), window | never),
        Contender("GraTa, volume statistics, blend 0.3", grata(statistics="volume", blend=0.3)),
        *(choosy if protocol.mirrors is not None else []),
    ]
    there = {type(c.method).__name__ for c in chosen}
    return chosen + [Contender(name, getattr(methods, name)()) for name in methods.__all__ if name not in there]
