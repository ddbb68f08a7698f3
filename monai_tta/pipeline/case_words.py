"""What became of a case, in one sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_tta.core.record import Case
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.quality_words import quality_in_words, quality_of_entry
from monai_tta.reporting.case_rows import unusual_input
from monai_tta.reporting.error_words import without_error_class


def case_in_words(case: Case | None, reason: str | None, error: str | None = None) -> str:
    """What was done, and why: whether the answer is the adapted one and why not, or why there is none.

    Args:
        case: its record; None where it failed.
        reason: why the answer is the unadapted one, as others may read it; None where it is the adapted one.
        error: why it failed; None where it did not.
    """
    if case is None:
        return without_error_class(f"failed: {error}")
    if reason is not None:
        return without_error_class(f"unadapted answer: {reason}")
    return f"adapted on {case.n_windows} window{'s' if case.n_windows != 1 else ''}" if case.n_windows else "adapted"


def picture_words(case: Case, names: LabelNames, reason: str | None) -> str:
    """The same for a picture that stands alone: also what is unusual in the input, and what the mask is worth.

    Args:
        case: its record.
        names: of the labels.
        reason: why the answer is the unadapted one, as others may read it; None where it is the adapted one.
    """
    return _joined(case_in_words(case, reason), unusual_input(case.input_check), quality_in_words(case, names))


def picture_words_of_entry(entry: Mapping[str, Any]) -> str:
    """The same of a case on record.

    Args:
        entry: of the case in ``records.json``. Older ones, which do not know whether the input was checked, say all of it in
            ``in_words``.
    """
    if "input_checked" not in entry:
        return str(entry["in_words"])
    return _joined(entry["in_words"], unusual_input(entry["input_check"]), quality_of_entry(entry))


def _joined(*parts: str | None) -> str:
    return "; ".join(part for part in parts if part)
