"""When a continual stream has gone wrong: what its shadow has learnt over many cases makes its answers degenerate."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from monai_tta.compute.precision import each_finite
from monai_tta.core.label_free_metrics import foreground_fraction, mean_entropy
from monai_tta.guards.base import demand
from monai_tta.guards.evidence import Evidence

FLOOR = 1e-3  # added to both sides of a ratio, so that next to nothing beside nothing is no change


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Drop a stream's shadow when its answers degenerate; the case is answered by a newborn one.

    The shadow's answers of up to four windows are compared with a newborn shadow's of the same windows: same image, same
    statistics, nothing learnt. So neither a new kind of patient nor what statistics mend counts as collapse, only what was
    learnt does (entropy minimisation may end in answering one class everywhere; Niu et al., ICLR 2023, arXiv 2302.12400).

    Args:
        foreground: the foreground per voxel may be this many times a newborn shadow's, or this part of it, above 1.
        entropy: the same of the entropy in nats per voxel.
        patience: how many cases in a row must leave these limits, at least 1.
        weight_distance: how far the weights may go, as a share of the moving tensors' Euclidean length in the source; beyond
            that, or where an answer is not finite, no patience is had.
    """

    foreground: float = 3.0
    entropy: float = 3.0
    patience: int = 3
    weight_distance: float = 0.5

    def __post_init__(self) -> None:
        demand(self.foreground > 1, "foreground", "a ratio above 1", self.foreground)
        demand(self.entropy > 1, "entropy", "a ratio above 1", self.entropy)
        demand(isinstance(self.patience, int) and self.patience >= 1, "patience", "a number of cases, at least 1", self.patience)
        demand(self.weight_distance > 0, "weight_distance", "a share of the weights' length, above 0", self.weight_distance)

    def check(self, evidence: Evidence) -> str | None:
        """Why the stream should begin anew, or None. Counts suspicious cases in a row on the shadow.

        Costs two forward passes of each window, and choosing them with learn="window"; nothing where the weights themselves went
        too far.
        """
        if not bool(each_finite(evidence.adapted).all()) and bool(evidence.unadapted.isfinite().all()):
            return "the shadow's answer is not finite"
        if not evidence.weight_distance <= self.weight_distance:
            return f"the weights travelled {100 * evidence.weight_distance:.3g}% of their length (at most {100 * self.weight_distance:.3g}%)"
        why = self.suspicion(evidence)
        evidence.shadow.suspicious_cases = 0 if why is None else evidence.shadow.suspicious_cases + 1
        if why is None or evidence.shadow.suspicious_cases < self.patience:
            return None
        return f"{why}, {self.patience} cases in a row"

    def suspicion(self, evidence: Evidence) -> str | None:
        """What is odd about this case's answers, or None."""
        if not evidence.windows:
            return None
        own, fresh = (evidence.answers(whose) for whose in (evidence.shadow, evidence.fresh))
        for what, limit, of in (
            ("foreground", self.foreground, foreground_fraction),
            ("entropy", self.entropy, mean_entropy),
        ):
            found, usual = (fmean(of(p, evidence.head) for p in answers) for answers in (own, fresh))
            ratio = (found + FLOOR) / (usual + FLOOR)
            if not 1 / limit <= ratio <= limit:
                return f"the shadow's {what} per voxel is {found:.3g} where a newborn shadow's is {usual:.3g}"
        return None
