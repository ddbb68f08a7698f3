"""Whether the slices of a DICOM series make one straight, evenly spaced volume, as readers take for granted.

A reader takes the place of a volume from its first and last slice. Here every slice's own header must agree with that, to a tenth
of a voxel. What does not is named, with what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_tta.pipeline.declared_place import TOLERANCE, Numbers
from monai_tta.pipeline.slice_headers import REPEATS_BY, THICKNESS, SliceHeader, listed, read_pixels

ADVICE = "convert it with a program that knows such series, for example dcm2niix, and give the NIfTI file"
_SAME_PLACE = 0.01  # of a pixel


def check_planes(folder: Path, headers: Sequence[SliceHeader]) -> None:
    """Refuse slices that do not say where they lie, or that lie in different planes or have pixels of different sizes.

    Raises:
        ValueError: saying which slices.
    """
    silent = [header for header in headers if not header.has_place]
    if silent:
        raise ValueError(
            f"{folder}: {silent[0].missing} is missing in {listed(silent)}, so that nothing says where the slice lies; export "
            "the series again, or remove what does not belong to the scan"
        )
    for header in headers:
        columns, rows = header.steps
        if abs(columns @ rows) > 1e-3 * np.linalg.norm(columns) * np.linalg.norm(rows):
            raise ValueError(f"{folder}: {header.name} has rows and columns that are not at right angles; {ADVICE}")
    planes = _groups(headers, lambda a, b: _turned(a, b) * _reach(a) < TOLERANCE)
    if len(planes) > 1:
        kinds = " and ".join(f"{len(group)} like {group[0].name}" for group in planes[:3])
        angle = np.degrees(_turned(planes[0][0], planes[1][0]))
        raise ValueError(
            f"{folder} has slices of {_count(len(planes))} orientations, {angle:.3g} degrees apart: {kinds}"
            f"{' and more' if len(planes) > 3 else ''}; give each orientation a folder of its own, and leave localizers out"
        )
    sizes = _groups(headers, lambda a, b: _stretched(a, b) < TOLERANCE)
    if len(sizes) > 1:
        found = ", ".join(f"{listed(group)}: {_spacing_text(group[0])}" for group in sizes[:3])
        raise ValueError(
            f"{folder} has slices with pixels of {_count(len(sizes))} sizes ({found}); give each a folder of its own"
        )


def in_order(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Slices in the order in which they lie along their normal."""
    normal = headers[0].normal
    return sorted(headers, key=lambda header: float(normal @ header.position))


def grid_of_slices(headers: Sequence[SliceHeader]) -> Numbers:
    """The affine ``(4, 4)``, from column, row and slice to mm in RAS, of slices in the order in which they lie.

    Args:
        headers: of a straight, evenly spaced stack.
    """
    affine = np.eye(4)
    affine[:3, :2] = headers[0].steps.T
    thickness = headers[0].numbers(THICKNESS)
    apart = headers[-1].position - headers[0].position
    single = headers[0].normal * (1.0 if thickness is None else thickness[0])
    affine[:3, 2] = apart / (len(headers) - 1) if len(headers) > 1 else single
    affine[:3, 3] = headers[0].position
    return np.asarray(np.diag([-1.0, -1, 1, 1]) @ affine)


def check_positions(folder: Path, ordered: Sequence[SliceHeader]) -> None:
    """Refuse slices that lie twice at one place, at uneven distances, or beside the normal of the first one.

    Args:
        folder: of the series, for messages.
        ordered: all slices, `in_order`, of one orientation.

    Raises:
        ValueError: saying what is wrong with which slices.
    """
    if len(ordered) < 2:
        return
    positions = np.array([header.position for header in ordered])
    pixel = float(np.linalg.norm(ordered[0].steps, axis=1).min())
    _check_repeats(folder, ordered, positions, pixel)
    heights = (positions - positions[0]) @ ordered[0].normal
    aside = positions - positions[0] - heights[:, None] * ordered[0].normal
    _check_steps(folder, ordered, heights)
    line = np.linspace(0, 1, len(ordered))[:, None] * aside[-1]
    bent = np.linalg.norm(aside - line, axis=1)
    if bent.max() >= TOLERANCE * pixel:
        worst = int(bent.argmax())
        raise ValueError(
            f"{folder}: {ordered[worst].name} lies {bent[worst]:.3g} mm aside of the line from {ordered[0].name} to "
            f"{ordered[-1].name}: the slices are shifted against each other within their plane; {ADVICE}"
        )
    if (drift := float(np.linalg.norm(aside[-1]))) >= TOLERANCE * pixel:
        angle = np.degrees(np.arctan2(drift, heights[-1]))
        raise ValueError(
            f"{folder} is tilted by {angle:.3g} degrees: each slice lies a little aside of the one before, {drift:.3g} mm from "
            f"the first to the last, as a tilted CT gantry makes them, and readers ignore that; {ADVICE}"
        )


def _check_repeats(folder: Path, ordered: Sequence[SliceHeader], positions: Numbers, pixel: float) -> None:
    """No place has two slices."""
    pairs = [
        (a, b)
        for a, b, here, there in zip(ordered, ordered[1:], positions, positions[1:], strict=False)
        if np.linalg.norm(there - here) < _SAME_PLACE * pixel
    ]
    if not pairs:
        return
    names = ", ".join(f"{a.name} and {b.name}" for a, b in pairs[:3]) + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")
    differ = [words for tag, words in REPEATS_BY.items() if any(a.tags.get(tag) != b.tags.get(tag) for a, b in pairs)]
    if all(_same_pixels(a, b) for a, b in pairs):
        raise ValueError(
            f"{folder} has {'a slice' if len(pairs) == 1 else 'slices'} twice, at one place and with the same pixels: {names}; "
            "remove one of each"
        )
    by = f"; they differ in {', '.join(differ)}" if differ else ""
    raise ValueError(
        f"{folder} has places with two slices that show different pixels: {names}{by}. It may hold several time points, echoes "
        "or reconstructions; give each a folder of its own"
    )


def _same_pixels(first: SliceHeader, other: SliceHeader) -> bool:
    one, two = (read_pixels(h.file) if not h.frame else read_pixels(h.file)[h.frame - 1] for h in (first, other))
    return one is not None and two is not None and np.array_equal(one, two)


def _check_steps(folder: Path, ordered: Sequence[SliceHeader], heights: Numbers) -> None:
    """Slices are evenly apart."""
    steps = np.diff(heights)
    even = heights[-1] / len(steps)
    off = np.abs(heights - even * np.arange(len(heights))) / max(even, 1e-9)
    if off.max() < TOLERANCE:
        return
    usual = max(float(np.median(steps)), 1e-9)
    gaps = np.flatnonzero(np.abs(steps - usual) >= TOLERANCE * usual)
    places = [f"between {ordered[k].name} and {ordered[k + 1].name}" for k in map(int, gaps)]
    if _are_gaps(steps / usual, gaps):
        where = " and ".join(places[:2]) + (f" and at {len(gaps) - 2} more places" if len(gaps) > 2 else "")
        raise ValueError(
            f"{folder} has slices {steps[gaps].max():.3g} mm apart where {usual:.3g} mm is usual: some are missing {where}; "
            "export the series again"
        )
    first = f", the first other one {places[0]}" if places else ""
    raise ValueError(
        f"{folder} has slices that are not evenly apart: {usual:.3g} mm is usual, and steps go from {steps.min():.3g} mm to "
        f"{steps.max():.3g} mm{first}. Readers would put all at steps of {even:.3g} mm, beside the anatomy. Where no slice is "
        f"missing, {ADVICE}"
    )


def _are_gaps(steps: Numbers, gaps: NDArray[np.intp]) -> bool:
    """Whether the unusual steps look as if slices were missing: few, whole multiples of the usual step, and not side by side.

    Args:
        steps: all steps, in usual ones.
        gaps: the numbers of those that are unusual.
    """
    whole = np.round(steps[gaps])
    are_multiples = bool((whole > 1).all() and (np.abs(steps[gaps] - whole) < TOLERANCE).all())
    are_apart = len(gaps) < 2 or int(np.diff(gaps).min()) > 1
    return 0 < len(gaps) <= max(1, len(steps) // 5) and are_multiples and are_apart


def _groups(headers: Sequence[SliceHeader], same: Callable[[SliceHeader, SliceHeader], bool]) -> list[list[SliceHeader]]:
    """Slices that are like each other, the largest group first."""
    groups: list[list[SliceHeader]] = []
    for header in headers:
        group = next((group for group in groups if same(group[0], header)), None)
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    return sorted(groups, key=len, reverse=True)


def _turned(first: SliceHeader, other: SliceHeader) -> float:
    """The angle by which one slice is turned against another, in radians: the larger of those of rows and columns."""
    axes = [h.steps / np.linalg.norm(h.steps, axis=1, keepdims=True) for h in (first, other)]
    apart = float(np.linalg.norm(axes[0] - axes[1], axis=1).max())
    return 2 * float(np.arcsin(min(apart / 2, 1.0)))


def _reach(header: SliceHeader) -> float:
    """By how many pixels a corner moves, at most, when a slice is turned by a small angle; per radian."""
    sizes = np.linalg.norm(header.steps, axis=1)
    return float(np.linalg.norm(header.corners(), axis=1).max() / sizes.min())


def _stretched(first: SliceHeader, other: SliceHeader) -> float:
    """By how many pixels the far corner of a slice moves when it has another slice's pixel spacing."""
    ratio = np.linalg.norm(other.steps, axis=1) / np.linalg.norm(first.steps, axis=1)
    return float((np.abs(ratio - 1) * np.maximum(np.array(first.size) - 1, 1)).max())


def _spacing_text(header: SliceHeader) -> str:
    columns, rows = np.linalg.norm(header.steps, axis=1)
    return f"{columns:.4g} x {rows:.4g} mm"


def _count(number: int) -> str:
    return {2: "two", 3: "three"}.get(number, str(number))
