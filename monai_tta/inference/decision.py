"""Whether an adapted answer is kept, whether a continual stream restarts, and the record of the case."""

from __future__ import annotations

from monai_tta.core.objectives import labels
from monai_tta.guards.base import as_guard
from monai_tta.guards.change import Finite
from monai_tta.guards.evidence import Evidence
from monai_tta.inference.adapter import NOTHING_USABLE
from monai_tta.inference.settings import Settings


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


def changed_fraction(evidence: Evidence) -> float:
    """Share of the voxels whose label differs between the unadapted and the adapted answer, in [0, 1]."""
    before, after = (labels(logits, evidence.head) for logits in (evidence.unadapted, evidence.adapted))
    return float((before != after).any(1).float().mean())
