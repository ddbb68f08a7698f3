"""What is compared: methods and their controls, and the domains that a bundle's ``configs/compare.yaml`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_tta import methods
from monai_tta.bundle import BundleError
from monai_tta.method import AdaptationMethod
from monai_tta.methods import Consistency, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.tasks import ConsistencyTask
from monai_tta.updates import Adam
from monai_tta.views import Restyling, Views

BETA = 1e-4  # the rate of the GraTa paper


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
    which transforms of the bundle's preprocessing the simulated scanner stands, the labels' names."""

    domains: tuple[Domain, ...]
    style: Any = "auto"
    mirrors: tuple[int, ...] | None = None
    before: tuple[str, ...] = ("NormalizeIntensityd", "ScaleIntensityRanged")
    labels: tuple[str, ...] = ()


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
        return Protocol(**{k: tuple(v) if isinstance(v, list) else v for k, v in said.items()})
    except (KeyError, TypeError) as error:
        raise BundleError(f"{file}: {error}") from error


def chosen_domains(protocol: Protocol, names: Sequence[str] = ()) -> list[Domain]:
    """The protocol's domains: all, or those named.

    Raises:
        BundleError: for a name that is no domain's.
    """
    known = {d.label: d for d in protocol.domains}
    _refuse_unknown("domain", names, known)
    return [known[name] for name in names or known]


def chosen_contenders(protocol: Protocol, names: Sequence[str] = ()) -> list[Contender]:
    """Source and the contenders named, or all.

    Raises:
        BundleError: for a name that is no contender's.
    """
    known = {c.label: c for c in contenders(protocol)}
    _refuse_unknown("row", names, known)
    return [c for label, c in known.items() if not names or label in ("Source", *names)]


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
