"""One image of a source that a calibration reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of the source.

    Args:
        called: what messages call it.
        has_label: whether it has a label.
        content: what kept trials of it depend on: a labelled case as the evaluate config lists it, or a hash of an unlabelled
            image's files.
        read: gives the image ``(C, *spatial)`` as the network sees it, and its label on its grid, None where it has none.
        fold: the number of the source's network that answers it, because that one was not trained on it; None for any.
    """

    called: str
    has_label: bool
    content: Mapping[str, Any]
    read: Callable[[], tuple[Tensor, Tensor | None]]
    fold: int | None = None
