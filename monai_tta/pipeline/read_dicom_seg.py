"""Read what a DICOM Segmentation holds that `write_seg` wrote.

It needs the package ``highdicom`` (extra ``[dicom]``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_tta.pipeline.mask_volumes import MaskVolume
from monai_tta.pipeline.series_checks import series_slices
from monai_tta.pipeline.series_geometry import grid_of_slices


def segments_in(file: Path) -> tuple[list[tuple[int, str, int]], float]:
    """The segments of a DICOM Segmentation: number, label and voxels of each; and the size of one voxel in ml.

    Args:
        file: one that `write_seg` wrote.
    """
    from highdicom.seg import segread

    seg = segread(file)
    counts = dict.fromkeys(seg.segment_numbers, 0)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame, own in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        groups = own if "SegmentIdentificationSequence" in own else shared  # where all frames are of one segment
        counts[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += int(np.count_nonzero(frame))
    measures = shared.PixelMeasuresSequence[0]
    size = float(np.prod([*map(float, measures.PixelSpacing), float(measures.SpacingBetweenSlices)])) / 1000
    return [(number, seg.get_segment_description(number).segment_label, counts[number]) for number in counts], size


def seg_on_series(file: Path, series: Path) -> MaskVolume:
    """A DICOM Segmentation as a label map on the grid of its series: the number of its segment in each voxel.

    Args:
        file: one that `write_seg` wrote.
        series: the folder of the series, or its only file.

    Raises:
        ValueError: where segments overlap, or the file is of another series.
    """
    import pydicom
    from highdicom.seg import segread

    headers = series_slices(series)
    files = dict.fromkeys(header.file for header in headers)
    uids = [str(pydicom.dcmread(one, stop_before_pixels=True, force=True).SOPInstanceUID) for one in files]
    seg = segread(file)
    how: dict[str, Any] = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    try:
        if headers[0].frame:
            found = seg.get_pixels_by_source_frame(uids[0], [header.frame for header in headers], **how)
        else:
            found = seg.get_pixels_by_source_instance(uids, **how)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"its segments overlap, or it is of another series ({error})") from error
    return MaskVolume(np.asarray(found).transpose(2, 1, 0)[..., None], grid_of_slices(headers))
