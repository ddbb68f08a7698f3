"""Where an image's header puts its voxels, and whether a reader put them there, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.1  # voxels: how far a voxel may lie from where the header puts it
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class DeclaredPlace:
    """Where a header puts some voxels: the corners of a volume, or of each slice of a series.

    Args:
        voxels: indices ``(n, 3)``.
        points: where these voxels lie, ``(n, 3)`` in mm, in RAS.
        names: the file that says so, for each voxel.
        shape: of the whole volume, in voxels.
    """

    voxels: Numbers
    points: Numbers
    names: tuple[str, ...]
    shape: tuple[int, ...]


def corners(shape: tuple[int, ...]) -> Numbers:
    """Indices ``(8, 3)`` of the corner voxels of a volume; axes that it lacks are 0."""
    ends = [(0, n - 1) for n in [*shape[:3], 1, 1, 1][:3]]
    return np.array(np.meshgrid(*ends, indexing="ij"), float).reshape(3, -1).T


def place_of_affine(shape: tuple[int, ...], affine: Numbers, name: str) -> DeclaredPlace:
    """The place of a volume whose affine ``(4, 4)``, from voxels to mm in RAS, is known."""
    voxels = corners(shape)
    return DeclaredPlace(voxels, apply_affine(affine, voxels), (name,) * len(voxels), tuple(shape[:3]))


def apply_affine(affine: Numbers, voxels: Numbers) -> Numbers:
    """Points ``(n, 3)`` of voxels ``(n, 3)``."""
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])


def ras_affine_of_itk(reader: Any) -> Numbers:
    """The affine ``(4, 4)`` in RAS of an image or header of SimpleITK with two dimensions or more."""
    n = reader.GetDimension()
    used = min(n, 3)
    affine = np.eye(4)
    axes = np.array(reader.GetDirection()).reshape(n, n)[:used, :used] * np.array(reader.GetSpacing())[:used]
    affine[:used, :used], affine[:used, 3] = axes, np.array(reader.GetOrigin())[:used]
    return np.asarray(np.diag([-1.0, -1, 1, 1]) @ affine)


def voxels_apart(affine: Numbers, other: Numbers, shape: tuple[int, ...]) -> float:
    """How far apart, in voxels of the first affine, two affines put any voxel of a volume."""
    voxels = corners(shape)
    found = apply_affine(np.asarray(np.linalg.inv(affine), float), apply_affine(other, voxels))
    return float(np.abs(found - voxels).max())


def check_loaded_place(image: Path, place: DeclaredPlace | None, loaded: Any) -> None:
    """Refuse an image that its reader put elsewhere than its header does, by more than a tenth of a voxel.

    Args:
        image: the file or folder, for messages.
        place: where the header puts it; None where that is unknown, and nothing is checked.
        loaded: what the bundle's preprocessing made of it. Its meta data still holds the affine that the reader found.

    Raises:
        ValueError: saying how far away it is, or that the loaded image does not say where it is.
    """
    if place is None:
        return
    affine = _affine_of(loaded)
    if affine is None:
        raise ValueError(
            f"{image} says where it lies in the patient, and this bundle's loader drops that: its mask would lie anywhere; "
            "let the bundle load images with MONAI's LoadImaged"
        )
    rank = min(3, affine.shape[0] - 1)
    points = place.points[:, :rank]
    voxels = np.linalg.solve(affine[:rank, :rank], (points - affine[:rank, -1]).T).T
    orders = [place.voxels[:, :rank]]
    if rank == 3:  # a reader may also stack slices from the other end, if its affine says so
        orders.append(np.where([False, False, True], place.voxels.max(0) - place.voxels, place.voxels))
    apart = min((np.abs(voxels - order).max(1) for order in orders), key=lambda far: float(far.max()))
    if not apart.max() < TOLERANCE:
        worst = int(apart.argmax())
        which = "" if len(set(place.names)) == 1 else f" (at {place.names[worst]})"
        raise ValueError(
            f"{image} was read up to {apart.max():.3g} voxels beside where its header puts it{which}: the bundle's reader does "
            "not understand this geometry; convert the image to NIfTI, for example with dcm2niix, or repair its header"
        )


def _affine_of(loaded: Any) -> Numbers | None:
    """The affine in RAS that the reader found, ``(3, 3)`` or ``(4, 4)``; None where the image does not say."""
    meta = getattr(loaded, "meta", None) or {}
    if "original_affine" not in meta:
        return None
    affine = np.array(meta["original_affine"], float)
    if str(meta.get("space", "RAS")) == "LPS":
        affine = np.diag([-1.0, -1, 1, 1][: affine.shape[0] - 1] + [1.0]) @ affine
    return affine
