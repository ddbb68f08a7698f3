"""One image's way to its answer: scan, select, adapt, answer, decide, record. Starting again is a second call of `attempt`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.distributed import all_agree
from monai_tta.compute.precision import Precision, lacks_half_kernel
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import NOTHING_ADAPTS, Case
from monai_tta.core.shadow import Shadow
from monai_tta.guards.evidence import MAX_GUARD_WINDOWS, spread_evenly
from monai_tta.inference.adapter import NOTHING_USABLE, Adapter
from monai_tta.inference.attempt import Attempt, record_of, seed_of
from monai_tta.inference.case_evidence import evidence_of
from monai_tta.inference.decision import changed_fraction, reason_to_refuse, reason_to_restart, reason_unchanged
from monai_tta.inference.first_pass import WindowScan, scan_windows
from monai_tta.inference.network import describe_failure
from monai_tta.inference.predict_quality import quality_of
from monai_tta.inference.request import Request
from monai_tta.inference.settings import Settings
from monai_tta.inference.unadapted import UnadaptedAnswer
from monai_tta.inference.uncertainty import uncertainty_of
from monai_tta.inference.window_selection import WindowSelector

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answered:
    """How a case ended: the answer, its record, the shadow that a continual stream carries on (None: nothing), and the map of
    the answer's uncertainty ``(1, *spatial)`` (None: there is none)."""

    answer: Any
    case: Case
    shadow: Shadow | None = None
    uncertainty_map: Tensor | None = None


class Vote:
    """Processes that adapt together say once per case whether they can; none adapts unless all can."""

    def __init__(self, together: bool) -> None:
        self.together = together
        self.is_cast = False

    def all_can(self, can: bool) -> bool:
        """Whether all processes can, if this one has not said so yet; else only whether this one can."""
        if self.together and not self.is_cast:
            self.is_cast = True
            return all_agree(can)
        return can


def nothing_adapts(method: AdaptationMethod) -> str:
    """The reason on record of a method that does not adapt."""
    return f"the method is {method.record_name.removesuffix('()')}: {NOTHING_ADAPTS}"


def answer_unadapted(request: Request, settings: Settings, reason: str | None) -> Answered:
    """The source's answer, and why: the method adapts nothing, or the network's layers cannot be seen."""
    began = time.perf_counter()
    unadapted = UnadaptedAnswer(request, settings.head)
    answer = unadapted.get()
    made = Attempt(reason=reason, head=settings.head)
    quality = quality_of(request, settings, settings.precision, None, None)
    uncertain = uncertainty_of(request, settings, None, unadapted.head or settings.head, answer)
    precision = settings.precision
    case = record_of(request, settings, made, unadapted, precision, began, quality=quality, uncertainty=uncertain)
    return Answered(answer, case, uncertainty_map=uncertain.map)


def answer_adapted(request: Request, settings: Settings, carried: Shadow | None) -> Answered:
    """The adapted answer, or the source's where adapting fails or is refused.

    Args:
        request: the image.
        settings: how to adapt.
        carried: the shadow of a continual stream; None for a fresh one.
    """
    began = time.perf_counter()
    unadapted = UnadaptedAnswer(request, settings.head)
    vote = Vote(settings.together)
    precision = settings.precision
    restarted: str | None = None
    while True:
        made = attempt(request, settings, unadapted, vote, precision, carried)
        if made.lacks_kernel and precision == "fast" and not vote.is_cast:
            precision = "exact"
            carried = None if made.has_learnt else carried
        elif made.restart is not None and not settings.together:
            restarted = made.restart
            carried = None
        else:
            break
    shadow = made.shadow
    if settings.together:
        restarted = made.restart
        vote.all_can(False)  # the other processes may still wait to hear whether all can adapt
        if not all_agree(made.reason is None or not made.has_learnt):
            shadow = None
    if made.reason is not None and (made.has_learnt or carried is None):
        shadow = None
    answer = made.answer if made.reason is None else unadapted.get()
    adapted = made.shadow if made.reason is None else None
    quality = quality_of(request, settings, precision, adapted, made.windows)
    uncertain = uncertainty_of(request, settings, adapted, unadapted.head or made.head, answer)
    case = record_of(request, settings, made, unadapted, precision, began, shadow, restarted, quality, uncertain)
    return Answered(answer, case, shadow, uncertain.map)


def attempt(
    request: Request,
    settings: Settings,
    unadapted: UnadaptedAnswer,
    vote: Vote,
    precision: Precision,
    carried: Shadow | None,
) -> Attempt:
    """Adapt to an image and answer it, once."""
    scan: WindowScan | None = None
    adapter: Adapter | None = None
    try:
        selector = _selector(settings)
        scan = scan_windows(request, settings.head, precision, selector.offer if selector else None)
        adapter = Adapter(request, settings, precision, seed_of(request, settings), scan, carried)
        windows = _learn_from_volume(adapter, selector, vote) if selector else ()
        answer = adapter.answer_image()
        evidence = evidence_of(adapter, answer, unadapted, windows)
        restart = reason_to_restart(settings, evidence, carried is not None)
        reason = reason_to_refuse(settings, evidence, adapter.n_windows) if restart is None else restart
        reason = reason_unchanged(adapter, answer, unadapted) if reason is None else reason
        changed = changed_fraction(evidence) if reason is None and unadapted.is_known else None
    except Exception as failure:  # whatever a network or a method does, the source can still answer
        _log.debug("adapting failed", exc_info=failure)
        lacks_kernel = lacks_half_kernel(failure)
        return _attempt_of(settings, scan, adapter, carried, reason=describe_failure(failure), lacks_kernel=lacks_kernel)
    return _attempt_of(settings, scan, adapter, carried, answer=answer, reason=reason, restart=restart, changed_fraction=changed)


def _attempt_of(
    settings: Settings, scan: WindowScan | None, adapter: Adapter | None, carried: Shadow | None, **outcome: Any
) -> Attempt:
    """An attempt's outcome together with what the scan and the adapter have to say of it, as far as it got."""
    if adapter is None:
        return Attempt(head=settings.head if scan is None else scan.head, shadow=carried, **outcome)
    return Attempt(
        head=adapter.scan.head,
        shadow=adapter.shadow,
        has_learnt=adapter.has_learnt,
        n_windows=adapter.n_windows,
        steps=tuple(adapter.steps),
        windows=adapter.windows,
        **outcome,
    )


def _selector(settings: Settings) -> WindowSelector | None:
    """What selects adaptation windows; None where the method needs none, or learns from each window in passing."""
    method = settings.method
    needs_windows = settings.learn == "volume" and (method.learns or method.pools_statistics)
    return WindowSelector(settings.n_adaptation_windows) if needs_windows else None


def _learn_from_volume(adapter: Adapter, selector: WindowSelector, vote: Vote) -> Sequence[Tensor]:
    """Learn from the selected windows all at once, and return those that guards look at.

    Raises:
        CannotAdapt: where no window is usable, windows differ in size, or another process cannot adapt.
    """
    windows = adapter.scan.choose(selector)
    if not vote.all_can(bool(windows)) and windows:
        raise CannotAdapt("another process that adapts together with this one has an image that cannot be adapted on")
    if not windows:
        raise CannotAdapt(NOTHING_USABLE)
    if len({w.shape for w in windows}) > 1:
        raise CannotAdapt(
            "the inferer asks about windows of several sizes, which cannot be learnt from at once; use learn='window'"
        )
    pools = adapter.method.pools_statistics  # a fresh shadow must pool over the very same windows
    guard_windows = spread_evenly(windows if pools else selector.at_least(windows, MAX_GUARD_WINDOWS))
    adapter.learn(torch.cat(windows))
    return guard_windows
