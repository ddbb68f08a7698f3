"""Write a mask as a DICOM Segmentation that refers to the slices of its series.

It needs the package ``highdicom`` (extra ``[dicom]``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_tta._version import __version__
from monai_tta.pipeline.declared_place import TOLERANCE, Numbers, voxels_apart
from monai_tta.pipeline.mask_labels import LONGEST_TEXT, LabelAmount
from monai_tta.pipeline.mask_volumes import MaskVolume
from monai_tta.pipeline.segment_codes import SegmentCodes
from monai_tta.pipeline.series_checks import series_slices
from monai_tta.pipeline.series_geometry import grid_of_slices
from monai_tta.pipeline.slice_headers import SliceHeader

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
# What highdicom asks for, and anonymised files lack: an attribute without a value says the same.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_SERIES_NUMBERS = 1000  # added to the number of the source's series


@dataclass(frozen=True)
class SegSource:
    """What a DICOM Segmentation says of the algorithm that made it.

    Args:
        bundle: the bundle's name.
        version: of the bundle; that of this package where the bundle does not say.
        codes: of its labels, where it says them.
    """

    bundle: str
    version: str
    codes: SegmentCodes

    @classmethod
    def of_metadata(cls, folder: str, metadata: Any) -> SegSource:
        """What a bundle's ``metadata.json`` says.

        Args:
            folder: the name of the bundle's folder.
            metadata: what the file holds.
        """
        said = metadata if isinstance(metadata, Mapping) else {}
        version = said.get("version")
        return cls(folder, version if isinstance(version, str) and version else __version__, SegmentCodes.of_metadata(metadata))


def write_seg(
    file: Path, volume: MaskVolume, labels: Sequence[LabelAmount], series: Path, source: SegSource, description: str
) -> None:
    """Write a mask as a DICOM Segmentation of binary segments, one for each label.

    Its identifiers follow from all that it says: the same mask of the same series has the same ones.

    Args:
        file: where to.
        volume: the mask, on the grid of the series, with its axes in any order.
        labels: what its values, or its channels, are.
        series: the folder of a DICOM series, or its only file.
        source: of the mask.
        description: of the content, in words.

    Raises:
        ValueError: for a mask that is not on the grid of the series, or has no label, and for a series without identifiers.
    """
    from highdicom.content import PixelMeasuresSequence
    from highdicom.seg import Segmentation, SegmentationTypeValues
    from pydicom.uid import generate_uid

    if not labels:
        raise ValueError("the mask is empty, and the bundle's metadata.json names no labels: there is no segment to write")
    headers = series_slices(series)
    datasets = _read_datasets(series, headers)
    for dataset in datasets:
        for keyword in _MAY_BE_EMPTY:
            dataset.setdefault(keyword, None)
    grid = grid_of_slices(headers)
    segments = _segments(_on_grid(volume, grid, (*headers[0].size, len(headers))), labels)
    descriptions = [source.codes.describe(number, label, source.bundle, source.version) for number, label in enumerate(labels, 1)]
    entropy = _entropy(datasets, segments, descriptions, source, description)
    across = float(np.linalg.norm(grid[:3, 2]))
    columns, rows = np.linalg.norm(headers[0].steps, axis=1)
    number = datasets[0].get("SeriesNumber")
    seg = Segmentation(
        source_images=datasets,
        pixel_array=segments,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
        series_number=min(int(number or 0) + _SERIES_NUMBERS, 2**31 - 1),
        sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
        instance_number=1,
        manufacturer="monai_tta",
        manufacturer_model_name="monai-tta run",
        software_versions=__version__,
        device_serial_number=source.bundle[:LONGEST_TEXT],
        content_label="SEGMENTATION",
        content_description=description[:LONGEST_TEXT],
        series_description=f"Segmentation by {source.bundle}"[:LONGEST_TEXT],
        pixel_measures=PixelMeasuresSequence((float(rows), float(columns)), across, across),
    )
    seg.save_as(file)


def check_identifiers(series: Path) -> None:
    """Check that a DICOM Segmentation can name what it refers to, before a mask is made.

    Args:
        series: the folder of a DICOM series, or its only file.

    Raises:
        ValueError: for a file of it that lacks an identifier, or has an empty one.
    """
    _read_datasets(series, series_slices(series))


def _read_datasets(series: Path, headers: Sequence[SliceHeader]) -> list[Any]:
    """What each file of a series says besides its pixels; one for all frames of an Enhanced file."""
    import pydicom

    files = dict.fromkeys(header.file for header in headers)
    datasets = {file: pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in files}
    for file, dataset in datasets.items():
        if missing := [name for name in _NEEDED if not dataset.get(name)]:
            how = "is empty" if missing[0] in dataset else "is missing"
            raise ValueError(
                f"{series}: {missing[0]} {how} in {file.name}, and a DICOM Segmentation must name it; choose another --format"
            )
    return list(datasets.values())


def _on_grid(volume: MaskVolume, grid: Numbers, shape: tuple[int, ...]) -> NDArray[Any]:
    """The voxels ``(columns, rows, slices, channels)`` of a mask with its axes as those of the series."""
    other = (
        "the mask is not on the grid of the DICOM series: this bundle's postprocessing does not bring it back there; choose "
        "another --format"
    )
    if volume.affine is None:
        raise ValueError("the mask does not say where it lies, as a picture, so it cannot be written as DICOM")
    voxels = volume.voxels[:, :, None] if volume.flat else volume.voxels
    affine = volume.affine
    if volume.flat:  # a flat mask has no thickness of its own
        affine = affine.copy()
        affine[:3, 2] = grid[:3, 2]
    turn = nib.orientations.io_orientation(np.linalg.inv(grid) @ affine)
    if np.isnan(turn).any():
        raise ValueError(other)
    turned = nib.orientations.apply_orientation(voxels, turn)
    moved = affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape[:3])
    if turned.shape[:3] != shape or not voxels_apart(grid, moved, shape) <= TOLERANCE:
        raise ValueError(other)
    return np.asarray(turned)


def _segments(voxels: NDArray[Any], labels: Sequence[LabelAmount]) -> NDArray[np.unsignedinteger[Any]]:
    """The frames of segments ``(slices, rows, columns)`` with their numbers; one more axis for segments that may overlap."""
    frames = voxels.transpose(2, 1, 0, 3)
    each = [_of_label(frames[..., label.channel or 0], label.value) for label in labels]
    if any(label.channel is not None for label in labels):
        return np.stack(each, -1).astype(np.uint8)
    numbers = np.zeros(frames.shape[:3], np.uint8 if len(labels) < 256 else np.uint16)
    for number, inside in enumerate(each, 1):
        numbers[inside] = number
    return numbers


def _of_label(frames: NDArray[Any], value: int | None) -> NDArray[np.bool_]:
    return np.asarray(frames != 0 if value is None else frames == value)


def _entropy(
    datasets: Sequence[Any], segments: NDArray[Any], descriptions: Sequence[Any], source: SegSource, description: str
) -> list[str]:
    """All that makes one DICOM Segmentation another one than others."""
    pixels = hashlib.sha256(segments.tobytes()).hexdigest()
    uids = [str(dataset.SOPInstanceUID) for dataset in datasets]
    words = [item.to_json() for item in descriptions]
    return [*uids, str(segments.shape), pixels, *words, source.bundle, source.version, description, __version__]
