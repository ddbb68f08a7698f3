"""View averaging: look from several sides, learn nothing (test-time augmentation)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from monai_tta.core.method import NoLearning
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import average
from monai_tta.core.views import Views
from monai_tta.quality.features import as_logits


@dataclass(frozen=True, kw_only=True)
class ViewAverage(NoLearning):
    """Answer with the mean of the probabilities over geometric views, given back as logits.

    Test-time augmentation by mirrors and quarter turns, e.g. Wang et al. 2019, arXiv 1807.07356. The answer is the
    network's main output alone: a single tensor.
    """

    views: Views = Views()

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Logits ``(N, K, *spatial)`` whose probabilities are the views' mean."""
        return as_logits(average(shadow, windows, self.views), shadow.head)
