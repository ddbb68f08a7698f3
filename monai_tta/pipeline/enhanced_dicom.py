"""Where the frames of an Enhanced DICOM file lie: one file for a whole volume, with the place of each frame in sequences.

It needs the package ``pydicom`` (extra ``[dicom]``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monai_tta.pipeline.dicom_marks import ENHANCED
from monai_tta.pipeline.series_geometry import ADVICE, check_planes, check_positions, in_order
from monai_tta.pipeline.slice_headers import (
    FRAMES,
    INTERCEPT,
    KIND_OF_OBJECT,
    ORIENTATION,
    PIXEL_SPACING,
    POSITION,
    SLOPE,
    THICKNESS,
    SliceHeader,
)

# By attribute, the sequence of functional groups that holds it, and its keyword there.
_GROUPS = {
    ORIENTATION: ("PlaneOrientationSequence", "ImageOrientationPatient"),
    POSITION: ("PlanePositionSequence", "ImagePositionPatient"),
    PIXEL_SPACING: ("PixelMeasuresSequence", "PixelSpacing"),
    THICKNESS: ("PixelMeasuresSequence", "SliceThickness"),
    SLOPE: ("PixelValueTransformationSequence", "RescaleSlope"),
    INTERCEPT: ("PixelValueTransformationSequence", "RescaleIntercept"),
}


def is_enhanced(header: SliceHeader) -> bool:
    """Whether a file is an Enhanced CT, MR or PET image, which has frames even where it is one."""
    return header.tags.get(KIND_OF_OBJECT, "") in ENHANCED


def frame_headers(place: Path, header: SliceHeader) -> list[SliceHeader]:
    """A header for each frame of an Enhanced file, in the order of the frames, which make one straight volume in that order.

    Args:
        place: the file or folder, for messages.
        header: of the file.

    Raises:
        ValueError: for frames that make no straight volume, that lie in another order, or whose numbers become intensities in
            different ways; for a file that holds a part of a volume; and without pydicom.
    """
    if find_spec("pydicom") is None:
        raise ValueError(
            f"{place}: {header.name} holds {header.n_frames} frames in one DICOM file, and to check where they lie needs the "
            f'package pydicom: pip install "monai-tta[dicom]"; or {ADVICE}'
        )
    import pydicom

    dataset = pydicom.dcmread(header.file, stop_before_pixels=True, force=True)
    if "ConcatenationUID" in dataset and dataset.get("InConcatenationTotalNumber") != 1:
        raise ValueError(f"{place}: {header.name} is one of several files that together hold one volume; {ADVICE}")
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(own) != header.n_frames:
        raise ValueError(f"{place}: {header.name} holds {header.n_frames} frames and says of {len(own)} where they lie; {ADVICE}")
    rest = {tag: value for tag, value in header.tags.items() if tag != FRAMES and tag not in _GROUPS}
    frames = [replace(header, tags=rest | _tags((groups, shared[0])), frame=number) for number, groups in enumerate(own, 1)]
    check_planes(place, frames)
    check_positions(place, in_order(frames))
    if in_order(frames) != frames:
        raise ValueError(f"{place}: the frames of {header.name} are stored in another order than they lie; {ADVICE}")
    if len({(frame.tags.get(SLOPE), frame.tags.get(INTERCEPT)) for frame in frames}) > 1:
        raise ValueError(f"{place}: the frames of {header.name} differ in rescale slope or intercept; {ADVICE}")
    return frames


def _tags(groups: Sequence[Any]) -> dict[str, str]:
    """The attributes of a frame, as ITK writes those of a file: of its own groups, else of those that all frames share."""
    found = {}
    for tag, (sequence, keyword) in _GROUPS.items():
        for group in groups:
            value = group[sequence][0].get(keyword) if group.get(sequence) else None
            if value is not None:
                found[tag] = "\\".join(map(str, value)) if hasattr(value, "__iter__") else str(value)
                break
    return found
