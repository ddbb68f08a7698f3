"""How a case ends: the evidence for whoever judges it, the verdict, and the record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from monai_tta.core.objectives import labels
from monai_tta.core.record import Case, peak_memory
from monai_tta.guards import Finite
from monai_tta.guards.base import as_guard
from monai_tta.guards.evidence import Evidence


def collapsed(episode: Any, evidence: Evidence) -> str | None:
    """Why the continual stream that this episode carries on should begin anew."""
    collapse = episode.inferer.collapse
    return collapse.check(evidence) if collapse is not None and episode.carried and episode.method.learns else None


def verdict(episode: Any, evidence: Evidence) -> str | None:
    """Why not to keep the adapted answer; notes how many labels it changes where the plain answer is known."""
    inferer = episode.inferer
    if inferer.learn == "window" and episode.method.learns and not episode.n_windows:
        return "no window can teach: each one is constant or holds NaN or infinity"
    reason = Finite().check(evidence)
    if reason is None and inferer.guard is not None:
        reason = as_guard(inferer.guard).check(evidence)
    if reason is None and episode.whole is not None:
        before, after = (labels(x, evidence.head) for x in (evidence.plain, evidence.adapted))
        episode.changed_fraction = float((before != after).any(1).float().mean())
    return reason


def record_of(episode: Any, shape: Sequence[int], reason: str | None) -> Case:
    """The record of an episode that is over."""
    inferer, shadow = episode.inferer, episode.shadow
    return Case(
        number=episode.number,
        network=type(episode.source or episode.network).__name__,
        method=episode.method.record_name,
        head=episode.survey.head,
        learn=inferer.learn,
        reset=inferer.reset,
        seed=episode.seed,
        precision=episode.precision,
        shape=tuple(shape),
        budget=inferer.budget,
        n_windows=episode.n_windows,
        moving=sum(t.numel() for t in shadow.moving) if shadow else 0,
        selected=shadow.selected if shadow else None,
        steps=tuple(episode.steps),
        weight_distance=shadow.weight_distance if shadow else 0.0,
        changed_fraction=episode.changed_fraction,
        seconds=time.perf_counter() - episode.began,
        seconds_plain=episode.seconds_plain,
        peak_memory=peak_memory(),
        reason=reason,
        restarted=episode.restarted,
    )
