"""Pictures of an image with its mask for a page: three planes through the middle of what was found, or the whole photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.picture_planes import load_map, load_shown, load_structures, planes
from monai_tta.reporting.case_pictures import draw_slice

_WHITE = 65535  # what stands for the largest possible value in a map that is a picture


def mask_pictures(
    image: Path,
    masks: Sequence[Path],
    labels: Sequence[Mapping[str, Any]] = (),
    uncertainty_map: Path | None = None,
    largest: float = 1.0,
) -> list[tuple[str, bytes]]:
    """Captions and PNGs of an image with its masks, and with the map of their uncertainty where there is one.

    Args:
        image: a file, or the folder of a DICOM series.
        masks: its masks' files, on the image's grid.
        labels: of the case, as in ``records.json``; empty where they are not known.
        uncertainty_map: its file.
        largest: the largest value that the map can have, in nats; it is drawn white.

    Raises:
        ValueError: for a mask or a map on another grid.
    """
    shown = load_shown(image)
    structures = load_structures(masks, labels, shown)
    uncertain = None
    if uncertainty_map is not None:
        is_picture = uncertainty_map.name.lower().endswith(PICTURES)
        uncertain = load_map(uncertainty_map, shown) / (_WHITE if is_picture else largest)
    drawn = []
    for plane in planes(shown, structures.any(0)):
        picture = plane.cut(shown.values)
        beside = None if uncertain is None else plane.cut(uncertain)[0]
        values = picture.transpose(1, 2, 0) if shown.is_photograph else picture[0]
        drawn.append((plane.caption, draw_slice(values, plane.cut(structures), plane.pixel, beside)))
    return drawn
