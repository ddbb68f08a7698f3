"""The evidence of one case, for the guards that decide about its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_tta.core.geometry import voxel_spacing
from monai_tta.core.shadow import Shadow
from monai_tta.core.window_inputs import has_per_window_inputs
from monai_tta.guards.evidence import MAX_GUARD_WINDOWS, Evidence
from monai_tta.inference.adapter import Adapter
from monai_tta.inference.first_pass import scan_windows
from monai_tta.inference.unadapted import UnadaptedAnswer
from monai_tta.inference.window_selection import WindowSelector


def evidence_of(adapter: Adapter, adapted: Any, unadapted: UnadaptedAnswer, guard_windows: Sequence[Tensor]) -> Evidence:
    """What a guard may look at.

    Args:
        adapter: what made the adapted answer.
        adapted: the adapted answer of the whole image, as the inner inferer returned it.
        unadapted: the source's answer, which is computed only if a guard asks for it.
        guard_windows: the windows that guards look at; empty where none were kept, then they are selected when asked for.
    """
    return _CaseEvidence(adapter, adapted, unadapted, guard_windows).collect()


class _CaseEvidence:
    """How the parts of an `Evidence` are computed when a guard first asks for them."""

    def __init__(self, adapter: Adapter, adapted: Any, unadapted: UnadaptedAnswer, guard_windows: Sequence[Tensor]) -> None:
        self.adapter = adapter
        self.adapted = adapted
        self.unadapted = unadapted
        self.guard_windows = guard_windows

    def collect(self) -> Evidence:
        image = self.adapter.request.image
        return Evidence(
            adapted=self._logits(self.adapted),
            head=self.adapter.scan.resolved_head,
            shadow=self.adapter.shadow,
            spacing=voxel_spacing(image, image.ndim - 2),
            compute_unadapted=self.compute_unadapted,
            compute_source=self.compute_source,
            compute_windows=self.compute_windows,
            compute_fresh=self.compute_fresh,
        )

    def compute_unadapted(self) -> Tensor:
        return self._logits(self.unadapted.get())

    def _logits(self, answer: Any) -> Tensor:
        return self.adapter.request.reader.logits(answer, self.adapter.scan.resolved_head)

    def compute_source(self) -> Shadow:
        source = self.adapter.request.source
        assert source is not None  # or there would be no adapter
        return self._runs_like_the_case(Shadow(source, self.adapter.scan.resolved_head, None))

    def compute_windows(self) -> Sequence[Tensor]:
        scan = self.adapter.scan
        request = self.adapter.request
        if has_per_window_inputs(*scan.extra):
            return ()
        windows = self.guard_windows
        if not windows:
            selector = WindowSelector(MAX_GUARD_WINDOWS)
            again = scan_windows(request, self.adapter.settings.head, self.adapter.precision, selector.offer)
            windows = again.choose(selector)
        weights = next((p for p in self.adapter.shadow.module.parameters() if p.is_floating_point()), request.image)
        with torch.inference_mode(False):  # a window made under it cannot change its memory layout outside
            return [w.to(weights.device, weights.dtype, copy=True) for w in windows]

    def compute_fresh(self, windows: Sequence[Tensor]) -> Shadow:
        source = self.adapter.request.source
        assert source is not None
        with torch.inference_mode(False), torch.no_grad():
            fresh = self._runs_like_the_case(self.adapter.method.begin(source, self.adapter.scan.resolved_head))
            if windows and len({w.shape for w in windows}) == 1:
                fresh.pool_statistics(torch.cat(list(windows)))
        return fresh

    def _runs_like_the_case(self, shadow: Shadow) -> Shadow:
        shadow.extra = self.adapter.scan.extra
        shadow.precision = self.adapter.precision
        shadow.reader = self.adapter.request.reader
        shadow.seed(self.adapter.seed)
        return shadow
