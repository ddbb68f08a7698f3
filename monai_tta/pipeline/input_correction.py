"""Apply a correction between loading and the rest of a bundle's preprocessing, and turn the mask back before it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import MapTransform
from torch import Tensor

from monai_tta.pipeline.bundle import BundleError
from monai_tta.pipeline.input_keys import CORRECTION
from monai_tta.pipeline.input_view import loading_steps
from monai_tta.quality.corrections import Correction

_GIVEN = "as_given"  # a key of a case's dictionary; MONAI takes what begins with "image_" for its meta data


class CorrectInput(MapTransform):
    """Change a loaded image as the case's correction says; leave a case without one alone."""

    def __init__(self) -> None:
        super().__init__("image")

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The case with the corrected image, and the image as given beside it."""
        correction: Correction | None = data.get(CORRECTION)
        if correction is None:
            return dict(data)
        return dict(data) | {"image": correction.apply(data["image"]), _GIVEN: data["image"]}


class TurnBack(MapTransform):
    """Lay a corrected image's mask on the image as given, right before it is saved."""

    def __init__(self) -> None:
        super().__init__("pred")

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The case with its prediction turned back.

        Raises:
            ValueError: where the prediction is not on the corrected image's grid, so that nothing says how to turn it back.
        """
        correction: Correction | None = data.get(CORRECTION)
        if correction is None:
            return dict(data)
        given: Any = data[_GIVEN]
        corrected: Any = correction.apply(given)
        mask: Any = data["pred"]
        if tuple(mask.shape[1:]) != tuple(corrected.shape[1:]) or not _same_place(mask, corrected):
            raise ValueError(
                f"the mask of the corrected image ({correction.words}) is not on the image's own grid at the end of this "
                "bundle's postprocessing, so it cannot be turned back: correct the file itself"
            )
        turned: Any = correction.undo(mask, given)
        if hasattr(turned, "affine") and hasattr(given, "affine"):
            turned.affine = torch.as_tensor(given.affine).to(torch.as_tensor(turned.affine))
        return dict(data) | {"pred": turned}


def add_corrections(preprocessing: Any, postprocessing: Any) -> None:
    """Make a bundle's transforms follow the correction that a case's dictionary may hold under `CORRECTION`; in place.

    Args:
        preprocessing: a `Compose` that begins with loading.
        postprocessing: a `Compose` that ends with saving; it may hold an `Invertd` that refers to the preprocessing.

    Raises:
        BundleError: where there is no step that loads, or none that saves.
    """
    count = loading_steps(preprocessing)
    after = list(getattr(postprocessing, "transforms", ()))
    place = next((n for n, step in enumerate(after) if type(step).__name__.startswith("Save")), None)
    if place is None:
        raise BundleError(
            "the postprocessing has no step that saves: a corrected image's mask could not be turned back before it"
        )
    before = list(preprocessing.transforms)
    preprocessing.transforms = [*before[:count], CorrectInput(), *before[count:]]
    postprocessing.transforms = [*after[:place], TurnBack(), *after[place:]]


def _same_place(mask: Tensor, corrected: Tensor) -> bool:
    """Whether two images' affines agree up to the origin; true where one of them has none."""
    one, other = getattr(mask, "affine", None), getattr(corrected, "affine", None)
    if one is None or other is None:
        return True
    a, b = (torch.as_tensor(m, dtype=torch.float64)[:-1, :-1] for m in (one, other))
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-3, atol=1e-4))
