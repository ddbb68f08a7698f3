"""An answer to a case as records have it, and its structures beside those of another answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_tta.pipeline.picture_planes import Shown, load_structures


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer to a case, as records have it.

    Args:
        masks: its files.
        labels: which value or channel of them is which structure, as in ``records.json``.
    """

    masks: Sequence[Path]
    labels: Sequence[Mapping[str, Any]]

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any], folder: Path) -> RecordedAnswer:
        """The answer that an entry of ``records.json`` describes.

        Args:
            entry: of the case.
            folder: of the masks.
        """
        return cls([folder / mask for mask in entry["masks"]], entry["labels"])


def labels_of_both(labels: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The labels of two answers, each once.

    Args:
        labels: of the first answer, as in ``records.json``.
        others: of the second one.
    """
    places = [_place(label) for label in labels]
    return [*labels, *(label for label in others if _place(label) not in places)]


def structures_of(masks: Sequence[Path], labels: Sequence[Mapping[str, Any]], shown: Shown) -> Tensor:
    """The structures of an answer; all of it as one where nobody knows which they are, so that two answers can be compared.

    Args:
        masks: its files.
        labels: of both answers.
        shown: the image, on whose grid they must lie.

    Raises:
        ValueError: for a mask on another grid.
    """
    found = load_structures(masks, labels, shown)
    return found if labels else found.any(0, keepdim=True)


def _place(label: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where in a case's masks a label is."""
    return tuple(label.get(key) for key in ("file", "channel", "value"))
