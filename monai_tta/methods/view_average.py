"""View averaging: test-time augmentation without learning."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from monai_tta.core.no_learning import NoLearning
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views, single_answers_of, view_average
from monai_tta.core.views import Views
from monai_tta.quality.features import as_logits


@dataclass(frozen=True, kw_only=True)
class ViewAverage(NoLearning):
    """Answer with the mean of the probabilities over mirrored and turned views, given back as logits.

    Test-time augmentation, e.g. Wang et al. 2019, arXiv 1807.07356. It costs a forward pass per view, keeps nothing, and needs a
    network that was trained with these views. Outputs besides the main one are those of the window as it is.

    Args:
        views: which mirrors and turns.
    """

    views: Views = Views()

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Zeros: no blend, no step, no edit."""
        return {}

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Logits ``(N, K, *spatial)`` of the views' mean probabilities, or these where the network answers probabilities."""
        logits = as_logits(view_average(shadow, windows, self.views), shadow.head)
        return shadow.reader.answer_of(logits, shadow.head, lambda: shadow.outputs(windows))

    def answer_in_views(self, shadow: Shadow, windows: Tensor, views: Views) -> tuple[Tensor, list[Tensor]]:
        """The views' mean, and the network's own answers in single views.

        Args:
            shadow: of this method.
            windows: ``(N, C, *spatial)``.
            views: which mirrors and turns the single answers are of.
        """
        return view_average(shadow, windows, self.views), answers_of_views(shadow, windows, views)

    def single_answers(self, shadow: Shadow, windows: Tensor, views: Views) -> Iterator[tuple[float, Tensor]]:
        """The network's own answers in single views, each with the same weight; arguments as above."""
        return single_answers_of(shadow, windows, views)
