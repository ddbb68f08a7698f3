"""Whether the files of a DICOM folder are one series that a reader puts where their headers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from monai_tta.pipeline.ask_itk import is_text
from monai_tta.pipeline.declared_place import DeclaredPlace
from monai_tta.pipeline.dicom_marks import is_dicom
from monai_tta.pipeline.enhanced_dicom import frame_headers, is_enhanced
from monai_tta.pipeline.series_geometry import ADVICE, check_planes, check_positions, in_order
from monai_tta.pipeline.slice_headers import (
    FRAME,
    IMAGE_TYPE,
    INTERCEPT,
    PHOTOMETRIC,
    SERIES,
    SLOPE,
    SPLITS_BY,
    SliceHeader,
    holds_no_image,
    listed,
    read_slice,
    series_of_reader,
)


def dicom_file_place(file: Path) -> DeclaredPlace | None:
    """Where a single DICOM file lies; None where it does not say, as a photograph or a projection.

    Raises:
        ValueError: for a file that cannot be read, or holds several frames and is no Enhanced DICOM, or see `frame_headers`.
    """
    _check_names(file, [file])
    header = read_slice(file)
    if header is None:
        raise ValueError(f"{file} has no readable DICOM image; it is damaged, or it is a report, a plan or the like")
    if is_enhanced(header):
        return _place(frame_headers(file, header))
    _check_frames(file, [header])
    return _place([header])


def series_place(folder: Path) -> DeclaredPlace | None:
    """Where the volume of a DICOM folder lies.

    Args:
        folder: its files are one series, files that hold no image set aside.

    Returns:
        the place of each slice; None for a folder without DICOM, and for one image that does not say where it lies.

    Raises:
        ValueError: for a damaged file, several series, slices that do not belong together or make no straight volume, or a
            reader that would leave slices out; saying which files, and what to do.
    """
    if odd := [path for path in sorted(folder.iterdir()) if path.exists() and not path.is_file() and not path.is_dir()]:
        raise ValueError(f"{folder} holds {odd[0].name}, which is no file but a device or a pipe")
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    marked = [file for file in files if is_dicom(file)]
    if not marked:
        return None
    _check_names(folder, files)
    taken = series_of_reader(folder)
    known = {file.name for series in taken for file in series}
    headers = _read(folder, [file for file in files if file in marked or file.name in known])
    if enhanced := [header for header in headers if is_enhanced(header)]:
        return _place(_frames_of_folder(folder, headers, enhanced))
    _check_one_series(folder, headers)
    if len(headers) > 1:
        check_planes(folder, headers)
        _check_numbers(folder, headers)
        check_positions(folder, in_order(headers))
    _check_reader(folder, headers, taken)
    return _place(headers)


def _frames_of_folder(folder: Path, headers: Sequence[SliceHeader], enhanced: Sequence[SliceHeader]) -> list[SliceHeader]:
    """The frames of a folder's only file."""
    if len(headers) > 1:
        raise ValueError(
            f"{folder} holds {len(headers)} DICOM files, and {listed(enhanced)} {_is_or_are(enhanced)} Enhanced DICOM, a volume "
            "by itself; give each such file a folder of its own, or by its name"
        )
    return frame_headers(folder, headers[0])


def series_slices(series: Path) -> list[SliceHeader]:
    """The headers of a series that `check_input_file` has accepted, in the order in which its slices lie.

    Args:
        series: its folder, or its only file.

    Raises:
        ValueError: for a series that does not say where it lies.
    """
    files = [file for file in sorted(series.iterdir()) if file.is_file()] if series.is_dir() else [series]
    headers = _read(series, [file for file in files if is_dicom(file)])
    if is_enhanced(headers[0]):
        return frame_headers(series, headers[0])
    if silent := [header for header in headers if not header.has_place]:
        raise ValueError(f"{series}: {silent[0].missing} is missing in {listed(silent)}, so that nothing says where it lies")
    return in_order(headers)


def _check_names(place: Path, files: Sequence[Path]) -> None:
    """ITK opens no file whose path is no text."""
    if odd := [file for file in files if not is_text(file)]:
        raise ValueError(f"{place}: the name of {odd[0].name} is not valid text, and ITK cannot open it; rename it")


def _read(folder: Path, files: Sequence[Path]) -> list[SliceHeader]:
    """All headers of files that hold images."""
    found = {file: read_slice(file) for file in files}
    damaged = [file for file, header in found.items() if header is None and not holds_no_image(file)]
    if damaged:
        names = ", ".join(file.name for file in damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
        raise ValueError(f"{folder}: {names} cannot be read: damaged, or no DICOM image; export the series again, or remove it")
    headers = [header for header in found.values() if header is not None]
    if not headers:
        raise ValueError(f"{folder} holds DICOM files, and none of them is an image")
    return headers


def _check_one_series(folder: Path, headers: Sequence[SliceHeader]) -> None:
    """Slices of one series, one frame of reference, one size and one kind."""
    series = Counter(header.tags.get(SERIES, "") for header in headers)
    if len(series) > 1:
        rare = [header for header in headers if header.tags.get(SERIES, "") == series.most_common()[-1][0]]
        raise ValueError(
            f"{folder} holds {len(series)} DICOM series, of {', '.join(map(str, series.values()))} images (of the smallest: "
            f"{listed(rare)}); give each a folder of its own"
        )
    _check_frames(folder, headers)
    scouts = [header for header in headers if "LOCALIZER" in header.tags.get(IMAGE_TYPE, "").upper().split("\\")]
    if 0 < len(scouts) < len(headers):
        raise ValueError(f"{folder}: {listed(scouts)} {_is_or_are(scouts)} a localizer among the scan's slices; remove it")
    _check_alike(folder, headers, lambda h: f"{h.size[0]} x {h.size[1]} pixels")
    _check_alike(folder, headers, lambda h: f"{'colour' if h.kind is None else h.tags.get(PHOTOMETRIC, 'grey')} pixels")
    _check_alike(folder, headers, lambda h: f"frame of reference {h.tags.get(FRAME, 'none')}")


def _check_frames(place: Path, headers: Sequence[SliceHeader]) -> None:
    """One image a file: several have their places in sequences of attributes, which readers may ignore."""
    if several := [header for header in headers if header.n_frames > 1]:
        raise ValueError(
            f"{place}: {several[0].name} holds {several[0].n_frames} frames in one DICOM file, whose places cannot be checked; "
            f"{ADVICE}"
        )


def _check_alike(folder: Path, headers: Sequence[SliceHeader], what: Callable[[SliceHeader], str]) -> None:
    """All slices have one value; else those that differ are named."""
    values = Counter(map(what, headers))
    if len(values) > 1:
        usual = values.most_common(1)[0][0]
        others = [header for header in headers if what(header) != usual]
        raise ValueError(
            f"{folder}: {listed(others)} {_has_or_have(others)} {what(others[0])}, and the other slices have {usual}; give each "
            "kind a folder of its own, or remove what does not belong to the scan"
        )


def _check_numbers(folder: Path, headers: Sequence[SliceHeader]) -> None:
    """All slices, or none, say how their numbers become intensities."""
    for tag, what in ((SLOPE, "rescale slope"), (INTERCEPT, "rescale intercept")):
        without = [header for header in headers if header.numbers(tag) is None]
        if 0 < len(without) < len(headers):
            raise ValueError(
                f"{folder}: {listed(without)} {_has_or_have(without)} no {what}, which the other slices have, so intensities "
                "would jump between slices; export the series again"
            )


def _check_reader(folder: Path, headers: Sequence[SliceHeader], taken: Sequence[Sequence[Path]]) -> None:
    """The reader takes all slices, in the order in which they lie, and its kind of numbers holds those of each slice."""
    by_name = {header.name: header for header in headers}
    read = [by_name[file.name] for file in taken[0] if file.name in by_name] if taken else []
    taken_names = {header.name for header in read}
    if left_out := [header for header in headers if header.name not in taken_names]:
        differ = [w for tag, w in SPLITS_BY.items() if len({header.tags.get(tag) for header in headers}) > 1]
        why = f"the slices differ in {', '.join(differ)}" if differ else "it takes them for another series"
        raise ValueError(f"{folder}: the reader would leave out {listed(left_out)}, because {why}; {ADVICE}")
    if len(read) < 2:
        return
    heights = [float(read[0].normal @ header.position) for header in read]
    if (np.diff(heights) <= 0).any():
        raise ValueError(f"{folder}: the reader takes the slices in another order than they lie; {ADVICE}")
    first = read[0].kind
    if first and (cut := [h for h in read if h.kind and not np.can_cast(h.kind, first, "safe")]):
        raise ValueError(
            f"{folder}: {listed(cut)} {_has_or_have(cut)} numbers of another kind ({cut[0].kind}) than {read[0].name} ({first}), "
            f"and the reader would cut them to that; {ADVICE}"
        )


def _place(headers: Sequence[SliceHeader]) -> DeclaredPlace | None:
    """The corners of each slice; None where one image does not say where it lies."""
    if not all(header.has_place for header in headers):
        return None
    ordered = in_order(headers)
    voxels, points, names = [], [], []
    for k, header in enumerate(ordered):
        columns, rows = header.size
        voxels += [(i, j, k) for i in (0, columns - 1) for j in (0, rows - 1)]
        points += list(header.position + header.corners())
        names += [header.name] * 4
    shape = (*headers[0].size, len(ordered))
    return DeclaredPlace(np.array(voxels, float), np.array(points) * [-1, -1, 1], tuple(names), shape)


def _has_or_have(headers: Sequence[SliceHeader]) -> str:
    return "has" if len(headers) == 1 else "have"


def _is_or_are(headers: Sequence[SliceHeader]) -> str:
    return "is" if len(headers) == 1 else "are each"
