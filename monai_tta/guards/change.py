"""Guards that check how much adaptation has changed: the answer, its agreement between views, the weights.

``docs/guards.md`` has a table of all guards: what each reads, in which unit, at what cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from monai_tta.compute.precision import each_finite
from monai_tta.core.label_free_metrics import agreement
from monai_tta.core.views import Views
from monai_tta.guards.base import Guard, finite_answer, require
from monai_tta.guards.evidence import Evidence


@dataclass(frozen=True)
class Finite(Guard):
    """Refuse NaN and infinity that the unadapted answer does not have. `AdaptiveInferer` always checks this."""

    def check(self, evidence: Evidence) -> str | None:
        """Costs an unadapted answer where the adapted one is not finite, else nothing."""
        if bool(each_finite(evidence.adapted).all()):
            return None
        return finite_answer(evidence.unadapted, evidence.adapted, evidence.head)


@dataclass(frozen=True)
class VolumeChange(Guard):
    """Refuse when the size of a structure changes too much.

    Args:
        most: the largest change allowed, as a share of the larger of the two sizes, in [0, 1]; 0.5 is half or double.
        small: structures of fewer voxels in both answers are not checked.

    Raises:
        ValueError: for ``most`` outside [0, 1].
    """

    most: float = 0.5
    small: int = 64

    def __post_init__(self) -> None:
        require(0 <= self.most <= 1, "most", "a share of the larger volume, in [0, 1]", self.most)

    def check(self, evidence: Evidence) -> str | None:
        """Compares numbers of voxels. Costs an unadapted answer."""
        for number, (before, after) in enumerate(zip(evidence.unadapted_masks, evidence.adapted_masks, strict=True), 1):
            old = int(before.sum())
            new = int(after.sum())
            larger = max(old, new)
            if larger >= self.small and abs(old - new) > self.most * larger:
                share = 100 * abs(old - new) / larger
                limit = f"{share:.0f} % of the larger; at most {100 * self.most:.0f} %"
                return f"structure {number} changes from {old} to {new} voxels ({limit})"
        return None


@dataclass(frozen=True)
class Agreement(Guard):
    """Refuse when the unadapted and the adapted answer have little in common.

    Args:
        least: the lowest soft Dice allowed, in [0, 1], averaged over the structures that at least one answer shows.

    Raises:
        ValueError: for ``least`` outside [0, 1].
    """

    least: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.least <= 1, "least", "a soft Dice in [0, 1]", self.least)

    def check(self, evidence: Evidence) -> str | None:
        """Compares probabilities. Costs an unadapted answer."""
        found = agreement(evidence.unadapted_probabilities, evidence.adapted_probabilities, evidence.head)
        if found >= self.least:
            return None
        return f"the unadapted and the adapted answer agree by only {found:.3f} (soft Dice; at least {self.least:g})"


@dataclass(frozen=True)
class ViewAgreement(Guard):
    """Refuse when the answers of an image's views agree less after adapting than before.

    Args:
        drop: the largest loss allowed of the soft Dice between the answer of a window and the answers of its views, in [0, 1].
        views: the views; choose those that the network was trained to segment.

    Raises:
        ValueError: for ``drop`` outside [0, 1].
    """

    drop: float = 0.1
    views: Views = Views()

    def __post_init__(self) -> None:
        require(0 <= self.drop <= 1, "drop", "a loss of soft Dice, in [0, 1]", self.drop)

    def check(self, evidence: Evidence) -> str | None:
        """Costs two forward passes, by source and shadow, of each window and each of its views."""
        before = evidence.unadapted_view_agreement(self.views)
        after = evidence.adapted_view_agreement(self.views)
        if before - after <= self.drop:
            return None
        return f"views agree by {after:.2f} after adapting, {before:.2f} before (soft Dice; a loss of at most {self.drop:g})"


@dataclass(frozen=True)
class WeightDistance(Guard):
    """Refuse when the weights moved too far.

    Args:
        most: the largest distance allowed, as a share of the Euclidean length of the moving tensors in the source, above 0.

    Raises:
        ValueError: for ``most`` of 0 or less.
    """

    most: float = 0.1

    def __post_init__(self) -> None:
        require(self.most > 0, "most", "a share of the weights' length, above 0", self.most)

    def check(self, evidence: Evidence) -> str | None:
        """Costs nothing."""
        return reason_weights_moved(evidence, self.most)


def reason_weights_moved(evidence: Evidence, most: float) -> str | None:
    """A reason when the weights moved by more than ``most``, a share of their length; NaN counts as more."""
    found = evidence.relative_weight_distance
    if found <= most:
        return None
    return f"the weights moved by {100 * found:.3g} % of their length (at most {100 * most:.3g} %)"
