"""Write the map of an answer's uncertainty beside its masks, in the image's own space and on the masks' grid.

It is brought back as the masks are: by the same inverse of the preprocessing. No other step of the bundle's postprocessing has a
part in it, because those make labels of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor, PILWriter
from monai.transforms import Invertd, InvertibleTransform, SaveImage, SaveImaged
from PIL import Image
from torch import Tensor

from monai_tta.pipeline.beside_masks import file_names
from monai_tta.pipeline.case_file import grid_of
from monai_tta.pipeline.declared_place import TOLERANCE, voxels_apart
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.input_correction import TurnBack
from monai_tta.pipeline.output_head import single_steps

_WHITE = 65535  # what stands for the largest possible value in a picture


def write_map(found: Tensor, largest: float, data: Mapping[str, Any], postprocessing: Any, folder: Path, name: str) -> Path:
    """Write a map beside the masks that were written for one image.

    Beside a mask that is a picture it is a grey PNG of 16 bits, in which 65535 is ``largest``. Beside any other mask it is a
    NIfTI file in float32, in nats.

    Args:
        found: the map ``(1, *spatial)`` in nats, on the grid of the prepared image.
        largest: the largest value that it can have.
        data: the case as postprocessing gets it, with the prepared ``image``.
        postprocessing: of the bundle.
        folder: where the masks were written.
        name: of the image.

    Returns:
        the file.

    Raises:
        ValueError: where the map is not on the masks' grid. Nothing is left of it then.
    """
    masks = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    if not masks:
        raise ValueError("no mask was written, beside which the map of uncertainty could be")
    mask = masks[0]
    on_grid = _as_given(found, data, postprocessing).clamp(0, largest)  # bicubic interpolation leaves this range
    is_picture = mask.name.lower().endswith(PICTURES)
    path = mask.parent / f"{file_names(masks, name)['uncertainty_map']}{'.png' if is_picture else '.nii.gz'}"
    if path in masks:
        raise ValueError("one of its masks has the name of the map of uncertainty")
    try:
        _save(on_grid / largest if is_picture else on_grid, path, is_picture, postprocessing)
        _check_grid(path, mask, is_picture)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _as_given(found: Tensor, data: Mapping[str, Any], postprocessing: Any) -> Tensor:
    """The map as it lies on the image as given, by the steps that bring the masks there."""
    image = data["image"]
    case = dict(data) | {"pred": MetaTensor(found).copy_meta_from(image) if isinstance(image, MetaTensor) else found}
    is_back = False
    for step in single_steps(postprocessing):
        undone = getattr(step, "transform", None)  # of MONAI's Invertd, and of the steps that save and undo in one
        if isinstance(undone, InvertibleTransform) and not is_back:
            keys = step.orig_keys
            original = keys if isinstance(keys, str) else keys[0]
            case = dict(Invertd("pred", transform=undone, orig_keys=original, nearest_interp=False)(case))
            is_back = True
        elif isinstance(step, TurnBack):
            case = step(case)
    back: Tensor = case["pred"]
    return back


def _save(found: Tensor, path: Path, is_picture: bool, postprocessing: Any) -> None:
    """Write a map by MONAI's writers, resampled to the image's grid where the bundle's step that saves does so with masks."""
    savers = [step.saver for step in single_steps(postprocessing) if isinstance(step, SaveImaged)]
    resample = bool(savers[0].meta_kwargs["resample"]) if savers else False
    ending = ".png" if is_picture else ".nii.gz"
    save = SaveImage(
        output_ext=ending,
        output_dtype=np.uint16 if is_picture else np.float32,
        scale=_WHITE if is_picture else None,
        writer=PILWriter if is_picture else "NibabelWriter",
        resample=resample,
        mode="bilinear",
        print_log=False,
    )
    save(found, filename=str(path).removesuffix(ending))


def _check_grid(path: Path, mask: Path, is_picture: bool) -> None:
    """Check that a map that was written lies where the mask does.

    Raises:
        ValueError: where it does not.
    """
    if is_picture:
        with Image.open(path) as one, Image.open(mask) as other:
            same = one.size == other.size
    else:
        (shape, affine, _), (wanted, mask_affine, _) = grid_of(path), grid_of(mask)
        same = shape == wanted and voxels_apart(mask_affine, affine, shape) <= TOLERANCE
    if not same:
        raise ValueError(
            "the map of uncertainty does not lie on the mask's grid: this bundle's postprocessing moves the mask by a step that "
            "the map cannot follow"
        )
