"""Decide whether to keep an adapted answer: guards, the evidence that they check, and reference ranges of the source's cases."""

from monai_tta.guards.base import AllOf, FromAnswers, Guard, as_guard, finite_answer
from monai_tta.guards.change import Agreement, Finite, ViewAgreement, VolumeChange, WeightDistance
from monai_tta.guards.collapse import Collapse
from monai_tta.guards.plausibility import Components, Distance, Entropy, Shape
from monai_tta.guards.reference_ranges import CaseFigures, ReferenceRanges, ranges_of_cases, read_reference_ranges

__all__ = [
    "Agreement", "AllOf", "CaseFigures", "Collapse", "Components", "Distance", "Entropy", "Finite", "FromAnswers", "Guard",
    "ReferenceRanges", "Shape", "ViewAgreement", "VolumeChange", "WeightDistance", "as_guard", "finite_answer",
    "ranges_of_cases", "read_reference_ranges",
]  # fmt: skip
