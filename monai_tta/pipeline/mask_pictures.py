"""Pictures of an image with its mask for a page: three planes through the middle of what was found, or the whole photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.picture_planes import load_map, load_shown, load_structures, names_of_structures, planes
from monai_tta.reporting.case_pictures import CasePictures, draw_slice, structure_marks

NOT_KEPT = (
    "The unadapted answer has no column: a run does not keep it. `monai-tta run --preview` draws its outline together with the "
    "adapted one."
)
BELOW = "The unadapted answer has no column: a run does not keep it. Its outline is in the preview behind the slices."
_WHITE = 65535  # what stands for the largest possible value in a map that is a picture


def pictures_of_entry(
    image: Path, entry: Mapping[str, Any], folder: Path, ends: tuple[float, float] | None = None
) -> CasePictures:
    """The pictures of a case on record.

    Args:
        image: a file, or the folder of a DICOM series.
        entry: of the case in ``records.json``.
        folder: of the masks.
        ends: see `mask_pictures`.

    Raises:
        ValueError: for a mask or a map on another grid.
        OSError: for a file that is on record and not there.
    """
    found, preview = (entry.get(kind) and folder / entry[kind] for kind in ("uncertainty_map", "preview"))
    is_adapted = entry["status"] == "adapted"
    return mask_pictures(
        image,
        [folder / mask for mask in entry["masks"]],
        entry["labels"],
        found or None,
        entry["uncertainty"]["largest"] if found else 1.0,
        title=f"{entry['status']} mask",
        ends=ends,
        preview=preview.read_bytes() if preview else None,
        notes=[BELOW if preview else NOT_KEPT] if is_adapted else [],
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
    preview: bytes | None = None,
    notes: Sequence[str] = (),
) -> CasePictures:
    """An image with its masks, and with the map of their uncertainty where there is one.

    Args:
        image: a file, or the folder of a DICOM series.
        masks: its masks' files, on the image's grid.
        labels: of the case, as in ``records.json``; empty where they are not known.
        uncertainty_map: its file.
        largest: the largest value that the map can have, in nats; it is drawn white.
        title: what the mask is called.
        ends: the values of a volume that are drawn black and white; None for the percentiles of what is shown.
        preview: what the run drew of the case.
        notes: what else a reader should know of the pictures.

    Raises:
        ValueError: for a mask or a map on another grid.
    """
    shown = load_shown(image)
    structures = load_structures(masks, labels, shown)
    uncertain = None
    if uncertainty_map is not None:
        is_picture = uncertainty_map.name.lower().endswith(PICTURES)
        uncertain = load_map(uncertainty_map, shown) / (_WHITE if is_picture else largest)
    grey = None if shown.is_photograph else ends
    drawn = []
    for plane in planes(shown, structures.any(0)):
        picture = plane.cut(shown.values)
        beside = None if uncertain is None else plane.cut(uncertain)[0]
        values = picture.transpose(1, 2, 0) if shown.is_photograph else picture[0]
        png = draw_slice(values, plane.cut(structures), plane.pixel, beside, title=title, left=plane.left, ends=grey)
        drawn.append((plane.caption, png))
    said = [] if grey is None else [f"Black is {grey[0]:g} or less, white {grey[1]:g} or more: what the network's bundle scales."]
    marks = structure_marks(names_of_structures(masks, labels, len(structures)))
    return CasePictures(drawn, marks, None if uncertain is None else largest, preview, [*said, *notes])
