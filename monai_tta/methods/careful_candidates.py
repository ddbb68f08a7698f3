"""What `Careful` tries on a case, and in which views where time is short."""

from __future__ import annotations

from torch import nn

from monai_tta.core.image_edits import EDITS
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.normalization import has_running_stats
from monai_tta.core.optimizers import Adam
from monai_tta.core.source_look import SourceLook
from monai_tta.core.views import Views
from monai_tta.methods.consistency import Consistency
from monai_tta.methods.image_edit import ImageEdit
from monai_tta.methods.statistics import Statistics
from monai_tta.methods.toward_source import CHANGES, TowardSource

BLENDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
# A fifth of the passes, for about the same gain: docs/careful.md.
QUICK_BLENDS = (0.3, 1.0)
UNADAPTED = Statistics(statistics="source", blend=0.0)
QUICK_VIEWS = Views(axes=(0,), turns=False)


def quick_candidates() -> tuple[AdaptationMethod, ...]:
    """What is tried on a network with running statistics where time is short: the source, and two blends of the volume's."""
    return (UNADAPTED, *(Statistics(statistics="volume", blend=blend) for blend in QUICK_BLENDS))


def usual_candidates(source: nn.Module, n_windows: int = 1, look: SourceLook | None = None) -> tuple[AdaptationMethod, ...]:
    """What is tried on a network, the source itself first.

    Where it has running statistics: seven blends of the volume's statistics, and two of each window's own where there are several
    adaptation windows. Elsewhere: a step of consistency, edited images, and, where the look of the source's images is known,
    images moved half-way to it.
    """
    if has_running_stats(source):
        by_window = [Statistics(statistics="window", blend=b) for b in (0.3, 1.0)] if n_windows > 1 else []
        return (*(Statistics(statistics="volume", blend=b) for b in BLENDS), *by_window)
    moved = [TowardSource(change=change, look=look) for change in CHANGES] if look else []
    return (UNADAPTED, Consistency(optimizer=Adam(lr=1e-2)), *(ImageEdit(edit=edit) for edit in EDITS), *moved)
