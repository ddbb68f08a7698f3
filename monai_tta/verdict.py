"""How a case ends: the evidence for whoever judges it, the verdict, and the record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_tta.containers import main_output
from monai_tta.evidence import WITNESSES, Evidence
from monai_tta.guard import as_guard
from monai_tta.guards import Finite
from monai_tta.objectives import labels
from monai_tta.record import Case, peak_memory
from monai_tta.shadow import Shadow
from monai_tta.survey import glance, particular
from monai_tta.teaching import Teachers


def spacing_of(image: Any) -> tuple[float, ...] | None:
    """A voxel's size along each spatial axis of an image ``(1, C, *spatial)`` by its affine; None for a plain tensor."""
    affine = getattr(image, "affine", None)
    if affine is None:
        return None
    axes = torch.as_tensor(affine, dtype=torch.float64).reshape(-1, *affine.shape[-2:])[0, :-1, :-1]
    sizes = axes.norm(dim=0).tolist()[: image.ndim - 2]
    return tuple(sizes) if len(sizes) == image.ndim - 2 else None


def evidence_of(episode: Any, adapted: Any, inputs: Tensor, args: Any, kwargs: Any) -> Evidence:
    """What a guard may look at, of an episode whose adapted answer is there."""
    look = episode.survey
    shadow: Shadow = episode.shadow

    def plain() -> Tensor:
        if episode.whole is None:
            episode.whole = episode.plainly(inputs, args, kwargs)
        return main_output(episode.whole, look.key)

    def dressed(stand_in: Shadow) -> Shadow:
        stand_in.extra, stand_in.precision = look.extra, episode.precision
        stand_in.seed(episode.seed)
        return stand_in

    def windows() -> Sequence[Tensor]:
        if particular(*look.extra):
            return ()
        chosen = episode.chosen
        if not chosen:
            teachers = Teachers(WITNESSES)
            found = glance(episode, inputs, args, kwargs, teachers.offer)
            chosen = found.choose(teachers)
        weights = next((p for p in shadow.module.parameters() if p.is_floating_point()), inputs)
        with torch.inference_mode(False):  # one made under it can't be laid out anew outside
            return [w.to(weights.device, weights.dtype, copy=True) for w in chosen]

    def newborn(those: Sequence[Tensor]) -> Shadow:
        with torch.inference_mode(False), torch.no_grad():
            born = dressed(episode.method.begin(episode.source, look.head))
            if those and len({w.shape for w in those}) == 1:
                born.gather(torch.cat(list(those)))
        return born

    return Evidence(
        adapted=main_output(adapted, look.key),
        head=look.head,
        shadow=shadow,
        spacing=spacing_of(inputs),
        ask_plain=plain,
        ask_source=lambda: dressed(Shadow(episode.source, look.head, None)),
        ask_windows=windows,
        ask_newborn=newborn,
    )


def collapsed(episode: Any, evidence: Evidence) -> str | None:
    """Why the continual stream that this episode carries on should begin anew."""
    collapse = episode.inferer.collapse
    return collapse.judge(evidence) if collapse is not None and episode.carried and episode.method.learns else None


def verdict(episode: Any, evidence: Evidence) -> str | None:
    """Why not to keep the adapted answer; notes how many labels it changes where the plain answer is known."""
    inferer = episode.inferer
    if inferer.learn == "window" and episode.method.learns and not episode.taught:
        return "no window can teach: each one is constant or holds NaN or infinity"
    reason = Finite().judge(evidence)
    if reason is None and inferer.guard is not None:
        reason = as_guard(inferer.guard).judge(evidence)
    if reason is None and episode.whole is not None:
        before, after = (labels(x, evidence.head) for x in (evidence.plain, evidence.adapted))
        episode.changed = float((before != after).any(1).float().mean())
    return reason


def record_of(episode: Any, shape: Sequence[int], reason: str | None) -> Case:
    """The record of an episode that is over."""
    inferer, shadow = episode.inferer, episode.shadow
    return Case(
        number=episode.number,
        network=type(episode.source or episode.network).__name__,
        method=episode.method.on_record,
        head=episode.survey.head,
        learn=inferer.learn,
        reset=inferer.reset,
        seed=episode.seed,
        precision=episode.precision,
        shape=tuple(shape),
        budget=inferer.budget,
        taught=episode.taught,
        moving=sum(t.numel() for t in shadow.moving) if shadow else 0,
        selected=shadow.selected if shadow else None,
        steps=tuple(episode.steps),
        travelled=shadow.travelled if shadow else 0.0,
        changed=episode.changed,
        seconds=time.perf_counter() - episode.began,
        seconds_plain=episode.seconds_plain,
        peak_memory=peak_memory(),
        reason=reason,
        reborn=episode.reborn,
    )
