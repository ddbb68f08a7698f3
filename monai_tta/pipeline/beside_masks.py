"""What else a run writes for a case beside its masks: a map of uncertainty, a preview. Nobody may take them for masks."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_tta.pipeline.image_names import name_of

_OLDER = {
    "uncertainty_map": "the map of uncertainty beside the mask is an earlier run's, of another mask; remove it",
    "preview": "the preview beside the mask is an earlier run's, of another mask; remove it",
}


@dataclass(frozen=True)
class BesideMasks:
    """The files of one case that lie beside its masks.

    Args:
        uncertainty_map: the map of its uncertainty; None where there is none.
        preview: the picture of its masks; None where there is none.
    """

    uncertainty_map: Path | None = None
    preview: Path | None = None

    def files(self) -> dict[str, Path]:
        """The files that there are, by what they are."""
        return {kind: file for kind, file in vars(self).items() if file is not None}

    def placed(self, place: Callable[[Path], Path]) -> BesideMasks:
        """The same files at other places.

        Args:
            place: returns where a file is then.
        """
        return BesideMasks(**{kind: place(file) for kind, file in self.files().items()})


def file_names(masks: Sequence[Path], name: str) -> dict[str, str]:
    """How the files beside a case's masks are called, without what comes after the dot, by what they are.

    Args:
        masks: of the case, one or more.
        name: of the case.
    """
    of_mask = name_of(masks[0]) if len(masks) == 1 else name
    return {"uncertainty_map": f"{name}_uncertainty", "preview": f"{of_mask}_preview"}


def notes_on_older(masks: Sequence[Path], name: str, beside: BesideMasks) -> tuple[str, ...]:
    """What to say of an earlier run's files that pass for those of a case's masks, in words.

    Args:
        masks: of the case, where they are now.
        name: of the case.
        beside: what this run has written for it.
    """
    folder, there = masks[0].parent, beside.files()
    called = {kind: file for kind, file in file_names(masks, name).items() if kind not in there}
    return tuple(_OLDER[kind] for kind, file in called.items() if any(folder.glob(f"{glob.escape(file)}.*")))
