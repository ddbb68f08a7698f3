"""What came of one attempt to adapt to an image, and the record of the case."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from monai_tta.compute.machine import computed_on
from monai_tta.compute.precision import Precision
from monai_tta.core.objectives import Head
from monai_tta.core.record import Case, Step, peak_memory
from monai_tta.core.shadow import Shadow
from monai_tta.inference.predict_quality import NOTHING_KNOWN, CaseQuality
from monai_tta.inference.request import Request
from monai_tta.inference.settings import Settings
from monai_tta.inference.unadapted import UnadaptedAnswer
from monai_tta.inference.uncertainty import NO_MAP, CaseUncertainty


@dataclass(frozen=True, eq=False, kw_only=True)
class Attempt:
    """What came of one attempt to adapt.

    ``reason`` says why its answer is not kept (None: it is), ``restart`` why the continual stream should restart, and
    ``lacks_kernel`` that the network has an operation without a half-width form. ``windows`` are those that were learnt from at
    once.
    """

    answer: Any = None
    reason: str | None = None
    restart: str | None = None
    lacks_kernel: bool = False
    head: Head | Literal["auto"] = "auto"
    shadow: Shadow | None = None
    has_learnt: bool = False
    n_windows: int = 0
    steps: tuple[Step, ...] = ()
    changed_fraction: float | None = None
    windows: Tensor | None = None


def seed_of(request: Request, settings: Settings) -> int:
    """The seed of the case's random draws: the same for each case, unless a continual stream goes over several."""
    return settings.seed + request.number if settings.continual else settings.seed


def record_of(
    request: Request,
    settings: Settings,
    made: Attempt,
    unadapted: UnadaptedAnswer,
    precision: Precision,
    began: float,
    shadow: Shadow | None = None,
    restarted: str | None = None,
    quality: CaseQuality = NOTHING_KNOWN,
    uncertainty: CaseUncertainty = NO_MAP,
) -> Case:
    """The record of a case, which ends now."""
    return Case(
        number=request.number,
        network=request.network_name,
        method=settings.method.record_name,
        head=unadapted.head or made.head,
        learn=settings.learn,
        reset=settings.reset,
        seed=seed_of(request, settings),
        precision=precision,
        shape=tuple(request.image.shape),
        budget=settings.n_adaptation_windows,
        n_windows=made.n_windows,
        n_moving=sum(t.numel() for t in shadow.moving) if shadow else 0,
        selected=shadow.selected if shadow else None,
        steps=made.steps,
        weight_distance=shadow.weight_distance if shadow else 0.0,
        changed_fraction=made.changed_fraction,
        seconds=time.perf_counter() - began,
        seconds_unadapted=unadapted.seconds,
        peak_memory=peak_memory(),
        answers=request.reader.kind,
        n_kept_source=shadow.n_kept_source if shadow else 0,
        reason=made.reason,
        restarted=restarted,
        quality=quality.of_answer,
        quality_unadapted=quality.of_unadapted,
        quality_note=quality.note,
        uncertainty=uncertainty.facts,
        uncertainty_note=uncertainty.note,
        computed_on=computed_on(request.image.device),
        threads=torch.get_num_threads(),
    )
