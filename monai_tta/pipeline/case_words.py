"""What became of a case, in one sentence for people."""

from __future__ import annotations

from monai_tta.core.record import Case
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.quality_words import quality_in_words


def case_in_words(case: Case | None, names: LabelNames, reason: str | None, error: str | None = None) -> str:
    """Whether the answer is the adapted one and why not, what is unusual in the input, and what the mask is worth.

    Args:
        case: its record; None where it failed.
        names: of the labels.
        reason: why the answer is the unadapted one, as others may read it; None where it is the adapted one.
        error: why it failed; None where it did not.
    """
    if case is None:
        return f"failed: {error}"
    found = f"; its input is {case.input_check}" if case.input_check else ""
    found += f"; {worth}" if (worth := quality_in_words(case, names)) else ""
    if reason is not None:
        return f"unadapted answer: {reason}{found}"
    on = f" on {case.n_windows} window{'s' if case.n_windows != 1 else ''}" if case.n_windows else ""
    return f"adapted{on}{found}"
