"""Pictures of an image with its mask for a page: three planes through the middle of what was found, or the whole photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.picture_planes import Plane, Shown, load_map, load_shown, load_structures, names_of_structures, planes
from monai_tta.pipeline.recorded_answer import RecordedAnswer, labels_of_both, structures_of
from monai_tta.reporting.slice_pictures import CasePictures, draw_slice, structure_marks

NOT_KEPT = (
    "The unadapted answer has no column: a run does not keep it. `monai-tta report --pictures IMAGES --bundle BUNDLE` computes "
    "it again."
)
BELOW = "The unadapted answer has no column: a run does not keep it. Its outline is in the preview behind the slices."
_WHITE = 65535  # what stands for the largest possible value in a map that is a picture


def pictures_of_entry(
    image: Path,
    entry: Mapping[str, Any],
    folder: Path,
    ends: tuple[float, float] | None = None,
    unadapted: RecordedAnswer | str | None = None,
) -> CasePictures:
    """The pictures of a case on record.

    Args:
        image: a file, or the folder of a DICOM series.
        entry: of the case in ``records.json``.
        folder: of the masks.
        ends: see `mask_pictures`.
        unadapted: the unadapted answer to an adapted case, or why it is not to be had; None where nobody asked for it.

    Raises:
        ValueError: for a mask or a map on another grid.
        OSError: for a file that is on record and not there.
    """
    found, preview = (entry.get(kind) and folder / entry[kind] for kind in ("uncertainty_map", "preview"))
    before = unadapted if isinstance(unadapted, RecordedAnswer) else None
    is_missing = entry["status"] == "adapted" and before is None
    return mask_pictures(
        image,
        [folder / mask for mask in entry["masks"]],
        entry["labels"],
        found or None,
        entry["uncertainty"]["largest"] if found else 1.0,
        title=f"{entry['status']} mask",
        ends=ends,
        unadapted=before,
        preview=preview.read_bytes() if preview else None,
        notes=[unadapted if isinstance(unadapted, str) else BELOW if preview else NOT_KEPT] if is_missing else [],
    )


def mask_pictures(
    image: Path,
    masks: Sequence[Path],
    labels: Sequence[Mapping[str, Any]] = (),
    uncertainty_map: Path | None = None,
    largest: float = 1.0,
    *,
    title: str = "mask",
    ends: tuple[float, float] | None = None,
    unadapted: RecordedAnswer | None = None,
    preview: bytes | None = None,
    notes: Sequence[str] = (),
) -> CasePictures:
    """An image with its masks, with the unadapted answer and with the map of their uncertainty where there are such.

    Args:
        image: a file, or the folder of a DICOM series.
        masks: its masks' files, on the image's grid.
        labels: of the case, as in ``records.json``; empty where they are not known.
        uncertainty_map: its file.
        largest: the largest value that the map can have, in nats; it is drawn white.
        title: what the mask is called.
        ends: the values of a volume that are drawn black and white; None for the percentiles of what is shown.
        unadapted: the unadapted answer to an adapted case; None for no panel of it.
        preview: what the run drew of the case.
        notes: what else a reader should know of the pictures.

    Raises:
        ValueError: for a mask or a map on another grid.
    """
    shown = load_shown(image)
    before = None
    if unadapted is not None:
        labels = labels_of_both(labels, unadapted.labels)
        before = structures_of(unadapted.masks, labels, shown)
    structures = load_structures(masks, labels, shown) if before is None else structures_of(masks, labels, shown)
    uncertain = None if uncertainty_map is None else _shares(uncertainty_map, largest, shown)
    grey = None if shown.is_photograph else ends
    found = structures.any(0)
    drawn = []
    for plane in planes(shown, found if before is None or found.any() else before.any(0)):
        beside = None if uncertain is None else plane.cut(uncertain)[0]
        answers = plane.cut(structures), None if before is None else plane.cut(before)
        drawn.append((plane.caption, _drawn(shown, plane, answers, beside, title, grey)))
    said = [] if grey is None else [f"Black is {grey[0]:g} or less, white {grey[1]:g} or more: what the network's bundle scales."]
    marks = structure_marks(names_of_structures(masks, labels, len(structures)), shown.is_photograph)
    return CasePictures(
        drawn, marks, None if uncertain is None else largest, preview, [*said, *notes], has_unadapted=before is not None
    )


def _shares(uncertainty_map: Path, largest: float, shown: Shown) -> Tensor:
    """A map of uncertainty as shares of its largest possible value."""
    is_picture = uncertainty_map.name.lower().endswith(PICTURES)
    return load_map(uncertainty_map, shown) / (_WHITE if is_picture else largest)


def _drawn(
    shown: Shown,
    plane: Plane,
    answers: tuple[NDArray[np.bool_], NDArray[np.bool_] | None],
    uncertain: NDArray[np.floating] | None,
    title: str,
    ends: tuple[float, float] | None,
) -> bytes:
    """A plane of the image with the mask, and with the unadapted answer where there is one."""
    picture = plane.cut(shown.values)
    values = picture.transpose(1, 2, 0) if shown.is_photograph else picture[0]
    mask, unadapted = answers
    return draw_slice(values, mask, plane.pixel, uncertain, unadapted=unadapted, title=title, left=plane.left, ends=ends)
