"""Whether to keep what was learnt: guards that compare the adapted answer with the plain one, and all others by name.

``docs/guards.md`` has a table of them: what each reads, in which unit, at what cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from monai_tta.compute.precision import each_finite
from monai_tta.core.label_free_metrics import agreement
from monai_tta.core.views import Views
from monai_tta.guards.base import Guard, demand, finite_answer
from monai_tta.guards.evidence import Evidence


@dataclass(frozen=True)
class Finite(Guard):
    """Refuse NaN and infinity that the plain answer does not have. `AdaptiveInferer` always asks this one, unasked."""

    def check(self, evidence: Evidence) -> str | None:
        """Free where the adapted answer is finite."""
        if bool(each_finite(evidence.adapted).all()):
            return None
        return finite_answer(evidence.unadapted, evidence.adapted, evidence.head)


@dataclass(frozen=True)
class VolumeChange(Guard):
    """Refuse when a structure's size changes too much: ``most`` in [0, 1] is the change over the larger of the two sizes, 0.5 is
    half or double. Structures of fewer than ``small`` voxels in both answers are left out."""

    most: float = 0.5
    small: int = 64

    def __post_init__(self) -> None:
        demand(0 <= self.most <= 1, "most", "a share of the larger volume, in [0, 1]", self.most)

    def check(self, evidence: Evidence) -> str | None:
        """Compares voxel counts."""
        for number, (before, after) in enumerate(zip(evidence.unadapted_masks, evidence.adapted_masks, strict=True), 1):
            a, b = int(before.sum()), int(after.sum())
            if max(a, b) >= self.small and abs(a - b) > self.most * max(a, b):
                change = f"from {a} to {b} voxels ({abs(a - b) / max(a, b):.0%} of the larger; at most {self.most:.0%})"
                return f"structure {number} changes {change}"
        return None


@dataclass(frozen=True)
class Agreement(Guard):
    """Refuse when plain and adapted answers have little in common: ``least`` is their soft Dice in [0, 1], averaged over the
    structures that one of them shows."""

    least: float = 0.5

    def __post_init__(self) -> None:
        demand(0 <= self.least <= 1, "least", "a soft Dice in [0, 1]", self.least)

    def check(self, evidence: Evidence) -> str | None:
        """Compares probabilities."""
        found = agreement(evidence.unadapted_probabilities, evidence.adapted_probabilities, evidence.head)
        return None if found >= self.least else f"plain and adapted answers agree by {found:.3f} only (at least {self.least:g})"


@dataclass(frozen=True)
class ViewAgreement(Guard):
    """Refuse when adapting makes the answer depend more on the pose: ``drop`` is how much of the soft Dice between a window's
    answer and its views' may be lost, in [0, 1]. ``views`` should be poses that the network was trained to answer."""

    drop: float = 0.1
    views: Views = Views()

    def __post_init__(self) -> None:
        demand(0 <= self.drop <= 1, "drop", "a loss of soft Dice, in [0, 1]", self.drop)

    def check(self, evidence: Evidence) -> str | None:
        """Asks source and shadow about each window and each of its views."""
        before, after = evidence.unadapted_views(self.views), evidence.adapted_views(self.views)
        if before - after <= self.drop:
            return None
        return f"views agree by {after:.2f} after adapting, {before:.2f} before (a loss of {self.drop:g} at most)"


@dataclass(frozen=True)
class WeightDistance(Guard):
    """Refuse weights that went too far: ``most`` as a share of the moving tensors' Euclidean length in the source."""

    most: float = 0.1

    def __post_init__(self) -> None:
        demand(self.most > 0, "most", "a share of the weights' length, above 0", self.most)

    def check(self, evidence: Evidence) -> str | None:
        """Costs nothing."""
        found = evidence.weight_distance
        return (
            None
            if found <= self.most
            else f"the weights travelled {100 * found:.3g}% of their length (at most {100 * self.most:.3g}%)"
        )
