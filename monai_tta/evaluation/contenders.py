"""The rows of a comparison: methods and their controls with the choices they are run under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from monai_tta import methods
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.optimizers import Adam
from monai_tta.core.restyling import Restyling
from monai_tta.core.tasks import ConsistencyTask
from monai_tta.core.trust import RandomSign
from monai_tta.core.views import Views
from monai_tta.evaluation.protocol import Protocol, refuse_unknown
from monai_tta.methods import Careful, Consistency, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.pipeline.bundle import BundleError


def stream_contenders(protocol: Protocol, only: Sequence[str] = ()) -> list[Contender]:
    """Source and the contenders named, or all: GraTa and its baselines, continual; GraTa anew for each case; and TENT at a rate
    that ruins it, with and without being begun anew.

    Raises:
        BundleError: for a name that is no contender's.
    """
    task = ConsistencyTask(restyling=Restyling(protocol.style))
    never: dict[str, Any] = {"reset": "never"}
    hasty = Tent(optimizer=Adam(lr=1000 * PAPER_LR))
    all_ = [
        Contender("Source", Source()),
        Contender("Statistics", Statistics(blend=1.0)),
        Contender("Tent", Tent(), never),
        Contender("Consistency", Consistency(objective=task, optimizer=Adam(lr=PAPER_LR)), never),
        Contender("GraTa", GraTa(pseudo=task), never),
        Contender("GraTa, 10 beta", GraTa(pseudo=task, optimizer=Adam(lr=10 * PAPER_LR)), never),
        Contender("GraTa, episodic", GraTa(pseudo=task)),
        Contender("Tent, 1000 beta", hasty, never),
        Contender("Tent, 1000 beta, never reborn", hasty, never | {"collapse": None}),
    ]
    known = {c.label: c for c in all_}
    for name in only:
        if name not in known:
            raise BundleError(f"no contender {name!r}; there are: {'; '.join(known)}")
    return [c for label, c in known.items() if not only or label in ("Source", *only)]


PAPER_LR = 1e-4  # the rate of the GraTa paper


# GraTa without its gradients; without its look-ahead, also at the rate of a cosine of 0; without the sign of its cosine.
ABLATIONS = ("Statistics, window, blend 1.0", "Consistency, beta", "Consistency, beta/4", "GraTa, random sign")


@dataclass(frozen=True)
class Contender:
    """A method with the choices it is run under; all get the same windows and budget."""

    label: str
    method: AdaptationMethod
    choices: dict[str, Any] = field(default_factory=dict)


def chosen_contenders(protocol: Protocol, names: Sequence[str] = (), ablations: bool = False) -> list[Contender]:
    """Source and the contenders named, or all of `contenders`; with ``ablations``, the rows of `ABLATIONS`, too.

    Raises:
        BundleError: for a name that is no contender's.
    """
    known = {c.label: c for c in [*contenders(protocol), *ablated(protocol)]}
    refuse_unknown("row", names, known)
    named = {"Source", *(names or [c.label for c in contenders(protocol)]), *(ABLATIONS if ablations else ())}
    return [c for label, c in known.items() if label in named]


def ablated(protocol: Protocol) -> list[Contender]:
    """What is run only when asked for: GraTa that forgets whether its gradients agree or oppose each other."""
    task = ConsistencyTask(restyling=Restyling(protocol.style))
    return [Contender("GraTa, random sign", GraTa(pseudo=task, trust=RandomSign()))]


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
        Contender("GraTa, trained mirrors, 10 beta, 4 steps", GraTa(pseudo=known, optimizer=Adam(lr=10 * PAPER_LR), steps=4)),
    ]
    chosen = [
        Contender("Source", Source()),
        Contender("Careful", Careful()),
        Contender("Careful, from the front", Careful(thorough=False)),
        Contender("Careful, universal judge", Careful(predictor="universal")),
        Contender("View average", ViewAverage()),
        *[Contender(f"Statistics, window, blend {b}", Statistics(blend=b)) for b in (0.1, 0.3, 1.0)],
        *[Contender(f"Statistics, volume, blend {b}", Statistics(blend=b, statistics="volume")) for b in (0.1, 0.3, 1.0)],
        Contender("Tent", Tent()),
        Contender("Consistency, beta", consistency(optimizer=Adam(lr=PAPER_LR))),
        Contender("Consistency, beta/4", consistency(optimizer=Adam(lr=PAPER_LR / 4))),
        Contender("GraTa", grata()),
        Contender("GraTa, 10 beta, 4 steps", grata(optimizer=Adam(lr=10 * PAPER_LR), steps=4)),
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
