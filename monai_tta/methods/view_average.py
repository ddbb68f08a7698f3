"""View averaging: look from several sides, learn nothing (test-time augmentation)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from monai_tta.method import Still
from monai_tta.panel import as_logits
from monai_tta.shadow import Shadow
from monai_tta.tasks import average
from monai_tta.views import Views


@dataclass(frozen=True, kw_only=True)
class ViewAverage(Still):
    """Answer with the mean of the probabilities over geometric views, given back as logits.

    Test-time augmentation by mirrors and quarter turns, e.g. Wang et al. 2019, arXiv 1807.07356. The answer is the
    network's main output alone: a single tensor.
    """

    views: Views = Views()

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Logits ``(N, K, *spatial)`` whose probabilities are the views' mean."""
        return as_logits(average(shadow, windows, self.views), shadow.head)
