"""What a case's record says that its caller should be warned of, once for each kind."""

from __future__ import annotations

import re

from monai_tta.core.record import Case


def news_of(case: Case, adapts: bool) -> list[tuple[str, str]]:
    """Kinds of news, and their words.

    Args:
        case: the record.
        adapts: whether the method does; where it does not, an unadapted answer is what was asked for.
    """
    found = (
        ("answered without adaptation", case.reason if adapts else None),
        ("the stream restarted", case.restarted),
        ("what the answer is worth is not known", case.quality_note),
        ("there is no map of the uncertainty", case.uncertainty_note),
    )
    # Other figures make no new kind.
    return [(f"{what}: " + re.sub(r"\d[\d.,%]*", "#", why), f"{what}: {why}") for what, why in found if why is not None]
