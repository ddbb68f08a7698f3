"""Whether an adapted answer is kept, whether it is one, and whether a continual stream restarts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_tta.core.objectives import labels
from monai_tta.guards.base import as_guard
from monai_tta.guards.change import Finite
from monai_tta.guards.evidence import Evidence
from monai_tta.inference.adapter import NOTHING_USABLE, Adapter
from monai_tta.inference.first_pass import detached_copy
from monai_tta.inference.settings import Settings
from monai_tta.inference.unadapted import UnadaptedAnswer

A_CLOSURE = (
    "the network runs layers by a closure (a lambda, or a function over the network itself), which a copy of it shares, so that "
    "what was adapted takes no part, or only some; let its forward pass use the layers of self"
)


def reason_to_restart(settings: Settings, evidence: Evidence, carried: bool) -> str | None:
    """Why a continual stream should restart, or None.

    Args:
        settings: how the case was adapted.
        evidence: the case.
        carried: whether its shadow comes from earlier cases; a fresh one cannot have collapsed.
    """
    if settings.collapse is None or not carried or not settings.method.learns:
        return None
    return settings.collapse.check(evidence)


def reason_to_refuse(settings: Settings, evidence: Evidence, n_windows: int) -> str | None:
    """Why the adapted answer should not be kept, or None.

    Args:
        settings: how the case was adapted.
        evidence: the case.
        n_windows: how many windows were learnt from.
    """
    if settings.learn == "window" and settings.method.learns and not n_windows:
        return NOTHING_USABLE
    reason = Finite().check(evidence)
    if reason is None and settings.guard is not None:
        reason = as_guard(settings.guard).check(evidence)
    return reason


def reason_unchanged(adapter: Adapter, answer: Any, unadapted: UnadaptedAnswer) -> str | None:
    """Why an answer is not an adapted one, or None: layers of the source took part in it, or it is the unadapted one.

    The unadapted answer is computed only where there is reason to doubt. To compare always would double the cost.

    Args:
        adapter: what made the answer.
        answer: of the whole image, as the inner inferer returned it.
        unadapted: the source's.
    """
    watch = adapter.watch
    if watch.in_shadow:
        return A_CLOSURE
    doubt = watch.in_inferer or (adapter.doubtful is not None and not adapter.shows_change and _is_the_sources(adapter))
    if not doubt and not unadapted.is_known:
        return None
    main = adapter.request.reader.main
    if not _same(main(answer), main(unadapted.get()), rounded=doubt):
        return None
    if watch.in_inferer:
        return "the inferer asks the source network itself, and gives its answer; let it ask the network that it is handed"
    return f"the answer equals the unadapted one: {adapter.method.record_name} changes nothing in this network or this image"


@torch.no_grad()
def _is_the_sources(adapter: Adapter) -> bool:
    """Whether the source answers the first windows as the shadow did, but for rounding."""
    assert adapter.doubtful is not None
    windows, extra, ours = adapter.doubtful
    adapter.scan.extra = extra
    theirs = adapter.scan.logits(windows)
    return _same(ours, theirs, rounded=True)


def _same(ours: Any, theirs: Any, rounded: bool) -> bool:
    """Whether two answers are equal bit for bit, or else but for rounding, as another memory layout causes it."""
    if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor) or ours.shape != theirs.shape:
        return False
    if not rounded or not ours.is_floating_point():
        return torch.equal(ours, theirs)
    coarser = max(torch.finfo(ours.dtype).eps, torch.finfo(theirs.dtype).eps)
    ours, theirs = (detached_copy(t).float() for t in (ours, theirs))
    return bool((ours - theirs).abs().max() <= min(64 * coarser, 0.01) * theirs.abs().max())


def changed_fraction(evidence: Evidence) -> float:
    """Share of the voxels whose label differs between the unadapted and the adapted answer, in [0, 1]."""
    before, after = (labels(logits, evidence.head) for logits in (evidence.unadapted, evidence.adapted))
    return float((before != after).any(1).float().mean())
