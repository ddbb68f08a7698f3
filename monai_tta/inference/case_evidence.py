"""The evidence of one case, for whoever decides about its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.containers import main_output
from monai_tta.core.shadow import Shadow
from monai_tta.guards.evidence import MAX_GUARD_WINDOWS, Evidence
from monai_tta.inference.first_pass import has_per_window_inputs, scan_windows
from monai_tta.inference.window_selection import WindowSelector


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

    def restore_format(stand_in: Shadow) -> Shadow:
        stand_in.extra, stand_in.precision = look.extra, episode.precision
        stand_in.seed(episode.seed)
        return stand_in

    def windows() -> Sequence[Tensor]:
        if has_per_window_inputs(*look.extra):
            return ()
        chosen = episode.chosen
        if not chosen:
            teachers = WindowSelector(MAX_GUARD_WINDOWS)
            found = scan_windows(episode, inputs, args, kwargs, teachers.offer)
            chosen = found.choose(teachers)
        weights = next((p for p in shadow.module.parameters() if p.is_floating_point()), inputs)
        with torch.inference_mode(False):  # one made under it can't be laid out anew outside
            return [w.to(weights.device, weights.dtype, copy=True) for w in chosen]

    def fresh(those: Sequence[Tensor]) -> Shadow:
        with torch.inference_mode(False), torch.no_grad():
            born = restore_format(episode.method.begin(episode.source, look.head))
            if those and len({w.shape for w in those}) == 1:
                born.pool_statistics(torch.cat(list(those)))
        return born

    return Evidence(
        adapted=main_output(adapted, look.key),
        head=look.head,
        shadow=shadow,
        spacing=spacing_of(inputs),
        compute_plain=plain,
        compute_source=lambda: restore_format(Shadow(episode.source, look.head, None)),
        compute_windows=windows,
        compute_fresh=fresh,
    )
