"""A NIfTI header can say twice where its voxels lie, by an sform and by a qform. Here both must say the same.

The rule, for every bundle, reader and transform: an image is used where nibabel and ITK put every voxel at the same place, to a
tenth of a voxel. Otherwise it is refused, because some programs would show its mask beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_tta.pipeline.declared_place import (
    TOLERANCE,
    DeclaredPlace,
    Numbers,
    apply_affine,
    corners,
    place_of_affine,
    ras_affine_of_itk,
    voxels_apart,
)


def nifti_place(image: Path, found: Any, itk_header: Any) -> DeclaredPlace | None:
    """Where a NIfTI image lies.

    Args:
        image: the file, for messages.
        found: what nibabel loaded.
        itk_header: what SimpleITK read of the header; None where it cannot read it.

    Returns:
        its place; None for an image of fewer than two dimensions.

    Raises:
        ValueError: when sform and qform disagree, none of them is set, the axes are not at right angles, or the header's voxel
            sizes contradict its form.
    """
    shape = tuple(map(int, found.header.get_data_shape()))
    if len(shape) < 2:
        return None
    affine = np.asarray(found.affine, float)
    _check_forms(image, found, shape)
    _check_right_angles(image, affine, shape)
    if itk_header is not None:
        itk_affine = ras_affine_of_itk(itk_header)
        if itk_header.GetDimension() == 2:  # ITK knows no third axis of a flat image, nor its height
            itk_affine[:, 2], itk_affine[2, :] = affine[:, 2], affine[2, :]
        if voxels_apart(affine, itk_affine, shape) > TOLERANCE:
            sizes = " x ".join(f"{size:.4g}" for size in found.header.get_zooms()[:3])
            raise ValueError(
                f"{image} lies at one place for nibabel and at another for ITK: its affine contradicts its header's voxel sizes "
                f"({sizes} mm); write the right affine to the header, for example with nibabel's set_sform and set_qform"
            )
    return place_of_affine(shape, affine, image.name)


def _check_forms(image: Path, found: Any, shape: tuple[int, ...]) -> None:
    """Both forms, where both are set, must agree; one of them must be set."""
    header = found.header
    if not hasattr(found, "get_sform"):
        return
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    if sform_code <= 0 and qform_code <= 0:
        raise ValueError(
            f"{image} does not say where it lies: neither its sform nor its qform is set, so left and right are unknown, and "
            "programs put it at different places; set both, for example with nibabel's set_sform and set_qform"
        )
    if sform_code <= 0 or qform_code <= 0:
        return
    sform, qform = np.asarray(found.get_sform(), float), np.asarray(found.get_qform(), float)
    if not voxels_apart(sform, qform, shape) <= TOLERANCE:
        voxels = corners(shape)
        apart = np.linalg.norm(apply_affine(sform, voxels) - apply_affine(qform, voxels), axis=1).max()
        raise ValueError(
            f"{image}: sform and qform disagree by up to {apart:.3g} mm, so programs put this image at two places, and its mask "
            "at one of them; decide which is right and copy it over the other, for example with nibabel's set_qform or set_sform"
        )


def _check_right_angles(image: Path, affine: Numbers, shape: tuple[int, ...]) -> None:
    """A sheared image has no place in ITK, nor in a qform."""
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / sizes)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * sizes  # the nearest affine with right angles
    if voxels_apart(affine, straight, shape) > TOLERANCE:
        cosine = max(abs(float(axes[:, a] @ axes[:, b]) / (sizes[a] * sizes[b])) for a, b in ((0, 1), (0, 2), (1, 2)))
        raise ValueError(
            f"{image} is sheared: two of its axes are {90 - np.degrees(np.arccos(min(cosine, 1.0))):.3g} degrees off a right "
            "angle, which ITK and many programs cannot show; resample it to a straight grid first"
        )
