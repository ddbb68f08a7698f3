"""When a continual stream has to restart: what its shadow learnt over many cases makes its answers degenerate."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from monai_tta.compute.precision import each_finite
from monai_tta.core.label_free_metrics import foreground_fraction, mean_entropy
from monai_tta.guards.base import require
from monai_tta.guards.change import reason_weights_moved
from monai_tta.guards.evidence import Evidence

OFFSET = 1e-3  # added to both sides of a ratio: a change from almost nothing to almost nothing is no change


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Drop the shadow of a stream when its answers degenerate; a fresh shadow then adapts to the case.

    The check compares the shadow's answers of up to four windows with a fresh shadow's answers of the same windows. Image and
    statistics are the same for both, so they differ only by what was learnt. Neither a new kind of patient nor a shift that
    statistics correct counts as collapse. (Entropy minimisation may end in predicting one class everywhere: Niu et al., ICLR
    2023, arXiv 2302.12400.)

    Args:
        foreground: the largest ratio allowed between the foreground per voxel of the two shadows, either way round, above 1.
        entropy: the same for the entropy per voxel.
        patience: how many cases in a row must be outside these limits before the stream restarts, at least 1.
        weight_distance: the largest distance of the weights from the source's, as a share of the Euclidean length of the moving
            tensors in the source, above 0. Beyond it, or where an answer is not finite, the stream restarts at once.

    Raises:
        ValueError: for a value outside its range.
    """

    foreground: float = 3.0
    entropy: float = 3.0
    patience: int = 3
    weight_distance: float = 0.5

    def __post_init__(self) -> None:
        require(self.foreground > 1, "foreground", "a ratio above 1", self.foreground)
        require(self.entropy > 1, "entropy", "a ratio above 1", self.entropy)
        whole = isinstance(self.patience, int)
        require(whole and self.patience >= 1, "patience", "a number of cases, at least 1", self.patience)
        require(self.weight_distance > 0, "weight_distance", "a share of the weights' length, above 0", self.weight_distance)

    def check(self, evidence: Evidence) -> str | None:
        """Check one case of a stream. Counts suspicious cases in a row on the shadow.

        Costs two forward passes of each window, and with learn="window" the selection of the windows; nothing where the weights
        moved too far; an unadapted answer where the adapted one is not finite.

        Returns:
            a reason to restart the stream, or None.
        """
        if not bool(each_finite(evidence.adapted).all()) and bool(evidence.unadapted.isfinite().all()):
            return "the shadow's answer is not finite"
        if (moved := reason_weights_moved(evidence, self.weight_distance)) is not None:
            return moved
        reason = self.reason_to_suspect(evidence)
        evidence.shadow.suspicious_cases = 0 if reason is None else evidence.shadow.suspicious_cases + 1
        if reason is None or evidence.shadow.suspicious_cases < self.patience:
            return None
        return f"{reason}, {self.patience} cases in a row"

    def reason_to_suspect(self, evidence: Evidence) -> str | None:
        """What is unusual about the answers of this case alone, or None. Costs two forward passes of each window."""
        if not evidence.windows:
            return None
        own, fresh = (evidence.window_probabilities(shadow) for shadow in (evidence.shadow, evidence.fresh))
        for name, limit, metric in (
            ("foreground", self.foreground, foreground_fraction),
            ("entropy", self.entropy, mean_entropy),
        ):
            found, usual = (fmean(metric(p, evidence.head) for p in answers) for answers in (own, fresh))
            ratio = (found + OFFSET) / (usual + OFFSET)
            if not 1 / limit <= ratio <= limit:
                return f"the shadow's {name} per voxel is {found:.3g}, a fresh shadow's is {usual:.3g}"
        return None
