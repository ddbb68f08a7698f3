"""The rows of a comparison: each method with its controls, and the choices that they are run with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from monai_tta import methods
from monai_tta.core.added_parameters import Added
from monai_tta.core.masked_context import MaskedContextTask
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.optimizers import Adam
from monai_tta.core.restyling import Restyling
from monai_tta.core.tasks import ConsistencyTask
from monai_tta.core.trust import RandomSign
from monai_tta.core.views import Views
from monai_tta.evaluation.protocol import Protocol, refuse_unknown
from monai_tta.methods import Careful, Consistency, GraTa, Rehearsal, Source, Statistics, Tent, ViewAverage

PAPER_LR = 1e-4  # beta, the learning rate of the GraTa paper
CONTINUAL: dict[str, Any] = {"reset": "never"}
BY_WINDOW: dict[str, Any] = {"learn": "window"}

# The methods, besides those of `FAMILIES`, that are in each comparison with their defaults. All others run when they are named,
# so that a new method does not make each comparison longer.
ALWAYS_COMPARED = ("ImageEdit", "MGG", "Rehearsal", "STAG", "VPTTA")

# GraTa without its gradients; without its look-ahead, also at the rate of a cosine of 0; without the sign of its cosine.
ABLATIONS = ("Statistics, window, blend 1.0", "Consistency, beta", "Consistency, beta/4", "GraTa, random sign")


@dataclass(frozen=True)
class Contender:
    """A method with keyword arguments of `AdaptiveInferer`. All contenders get the same windows and budget."""

    label: str
    method: AdaptationMethod
    choices: dict[str, Any] = field(default_factory=dict)


def chosen_contenders(protocol: Protocol, names: Sequence[str] = (), ablations: bool = False) -> list[Contender]:
    """Source and the named contenders, or all of `contenders`; with ``ablations``, those of `ABLATIONS`, too.

    Raises:
        BundleError: for an unknown name.
    """
    known = {row.label: row for row in [*contenders(protocol), *_only_when_named(protocol)]}
    refuse_unknown("row", names, known)
    wanted = {"Source", *(names or [row.label for row in contenders(protocol)]), *(ABLATIONS if ablations else ())}
    return [row for label, row in known.items() if label in wanted]


def contenders(protocol: Protocol) -> list[Contender]:
    """All rows of a comparison, family by family in the order of `FAMILIES`, then those of `ALWAYS_COMPARED`.

    One that is meant for streams is there twice, episodic and continual.
    """
    rows = [row for family in FAMILIES for row in family(protocol)]
    return [*rows, *(row for name in ALWAYS_COMPARED for row in _defaults_of(name))]


def _defaults_of(name: str) -> list[Contender]:
    """A method with its defaults; twice if it is meant for streams, episodic and continual."""
    method = getattr(methods, name)()
    continual = [Contender(f"{name}, continual", method, CONTINUAL)] if method.is_continual else []
    return [Contender(name, method), *continual]


def stream_contenders(protocol: Protocol, only: Sequence[str] = ()) -> list[Contender]:
    """The rows of a comparison over streams: Source and the named ones, or all that are always compared.

    GraTa and its baselines are continual, and so is each further method that is meant for streams. GraTa is also run episodic,
    and Tent at a learning rate that ruins it, with and without restarts after a collapse. GraTa, and Tent at a learning rate at
    which it forgets, are run with rehearsal, too, for which the checkpoint needs a file of its source's features.

    Raises:
        BundleError: for an unknown name.
    """
    task = _task(protocol)
    faster = GraTa(pseudo=task, optimizer=Adam(lr=10 * PAPER_LR))
    forgetful = Tent(optimizer=Adam(lr=100 * PAPER_LR))
    reckless = Tent(optimizer=Adam(lr=1000 * PAPER_LR))
    rows = [
        Contender("Source", Source()),
        Contender("Statistics", Statistics(blend=1.0)),
        Contender("Tent", Tent(), CONTINUAL),
        Contender("Consistency", Consistency(objective=task, optimizer=Adam(lr=PAPER_LR)), CONTINUAL),
        Contender("GraTa", GraTa(pseudo=task), CONTINUAL),
        Contender("GraTa, 10 beta", faster, CONTINUAL),
        Contender("GraTa, 10 beta, rehearsal", Rehearsal(inner=faster), CONTINUAL),
        Contender("GraTa, episodic", GraTa(pseudo=task)),
        Contender("Tent, 100 beta", forgetful, CONTINUAL),
        Contender("Tent, 100 beta, rehearsal", Rehearsal(inner=forgetful), CONTINUAL),
        Contender("Tent, 1000 beta", reckless, CONTINUAL),
        Contender("Tent, 1000 beta, never restarted", reckless, CONTINUAL | {"collapse": None}),
    ]
    others = [name for name in _with_defaults() if getattr(methods, name) not in {type(row.method) for row in rows}]
    made = {name: getattr(methods, name)() for name in others}
    rows += [Contender(name, method, CONTINUAL) for name, method in made.items() if method.is_continual]
    known = {row.label: row for row in rows}
    refuse_unknown("contender", only, known)
    wanted = ("Source", *only) if only else [label for label in known if label not in made or label in ALWAYS_COMPARED]
    return [row for label, row in known.items() if label in wanted]


def _with_defaults() -> list[str]:
    """The methods that do something of their own by default: DyNA without a diary is the method inside it."""
    names = [name for name in methods.__all__ if name != "DyNA"]
    return [name for name in names if all(f.default is not MISSING for f in fields(getattr(methods, name)))]


def _source(protocol: Protocol) -> list[Contender]:
    return [Contender("Source", Source())]


def _careful(protocol: Protocol) -> list[Contender]:
    return [
        Contender("Careful", Careful()),
        Contender("Careful, un-augmented", Careful(rest="un-augmented")),
        Contender("Careful, one network", Careful(rest="one network")),
        Contender("Careful, universal predictor", Careful(predictor="universal")),
    ]


def _view_average(protocol: Protocol) -> list[Contender]:
    return [Contender("View average", ViewAverage())]


def _statistics(protocol: Protocol) -> list[Contender]:
    blends = (0.1, 0.3, 1.0)
    return [
        *[Contender(f"Statistics, window, blend {b}", Statistics(blend=b)) for b in blends],
        *[Contender(f"Statistics, volume, blend {b}", Statistics(blend=b, statistics="volume")) for b in blends],
    ]


def _tent(protocol: Protocol) -> list[Contender]:
    return [Contender("Tent", Tent())]


def _consistency(protocol: Protocol) -> list[Contender]:
    task = _task(protocol)
    return [
        Contender("Consistency, beta", Consistency(objective=task, optimizer=Adam(lr=PAPER_LR))),
        Contender("Consistency, beta/4", Consistency(objective=task, optimizer=Adam(lr=PAPER_LR / 4))),
    ]


def _grata(protocol: Protocol) -> list[Contender]:
    task = _task(protocol)
    return [
        Contender("GraTa", GraTa(pseudo=task)),
        Contender("GraTa, 10 beta, 4 steps", GraTa(pseudo=task, optimizer=Adam(lr=10 * PAPER_LR), steps=4)),
        Contender("GraTa, 4 steps", GraTa(pseudo=task, steps=4)),
        Contender("GraTa, continual", GraTa(pseudo=task), CONTINUAL),
        Contender("GraTa, 4 steps, continual", GraTa(pseudo=task, steps=4), CONTINUAL),
        Contender("GraTa, learn window", GraTa(pseudo=task), BY_WINDOW),
        Contender("GraTa, learn window, continual", GraTa(pseudo=task), BY_WINDOW | CONTINUAL),
        Contender("GraTa, volume statistics, blend 0.3", GraTa(pseudo=task, statistics="volume", blend=0.3)),
    ]


def _trained_mirrors(protocol: Protocol) -> list[Contender]:
    """Views that the source was trained on, where the protocol says which: mirrored along these axes and never turned."""
    if protocol.mirrors is None:
        return []
    views = Views(axes=protocol.mirrors, turns=False)
    task = ConsistencyTask(restyling=Restyling(protocol.style), views=views)
    faster = GraTa(pseudo=task, optimizer=Adam(lr=10 * PAPER_LR), steps=4)
    return [
        Contender("View average, trained mirrors", ViewAverage(views=views)),
        Contender("GraTa, trained mirrors", GraTa(pseudo=task)),
        Contender("GraTa, trained mirrors, 10 beta, 4 steps", faster),
    ]


def _only_when_named(protocol: Protocol) -> list[Contender]:
    """GraTa that does not know whether its gradients agree or oppose each other, parts that go with any method, and the methods
    that have no row else, with their defaults. One that needs to be told more is left out.
    """
    masked = Consistency(objective=MaskedContextTask(), optimizer=Adam(lr=PAPER_LR))
    covered = {type(row.method).__name__ for row in contenders(protocol)}
    added = Consistency(objective=_task(protocol), select=Added(), optimizer=Adam(lr=10 * PAPER_LR))
    return [
        Contender("GraTa, random sign", GraTa(pseudo=_task(protocol), trust=RandomSign())),
        Contender("Consistency, masked context", masked),
        Contender("Consistency, added parameters", added),
        *(row for name in _with_defaults() if name not in covered for row in _defaults_of(name)),
    ]


def _task(protocol: Protocol) -> ConsistencyTask:
    """Consistency under restyling in the bundle's style."""
    return ConsistencyTask(restyling=Restyling(protocol.style))


FAMILIES: tuple[Callable[[Protocol], list[Contender]], ...] = (
    _source,
    _careful,
    _view_average,
    _statistics,
    _tent,
    _consistency,
    _grata,
    _trained_mirrors,
)
