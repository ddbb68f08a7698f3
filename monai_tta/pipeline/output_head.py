"""What a bundle's logits stand for, as its own postprocessing tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from monai.transforms import Activations, Activationsd, AsDiscrete, AsDiscreted, Compose

# Transforms for the answers of one family of networks, by the class's name, because their modules need extras. VISTA3D's asks for
# each prompt's channel whether it is above zero; HoVerNet's takes the softmax of nucleus and background.
_OF_ONE_FAMILY: dict[str, Literal["softmax", "sigmoid"]] = {
    "VistaPostTransformd": "sigmoid",
    "HoVerNetInstanceMapPostProcessingd": "softmax",
}


def head_of(postprocessing: Any) -> Literal["softmax", "sigmoid", "auto"]:
    """Tell "softmax" from "sigmoid"; "auto" where the postprocessing does not say.

    Softmax or argmax mean "softmax". A sigmoid, or a threshold without a softmax, means "sigmoid". The transforms for HoVerNet's
    answers mean "softmax", those for VISTA3D's "sigmoid". An export of nnU-Net says it in its ``head``. Overlays use it as
    ``head: {_target_: monai_tta.pipeline.output_head.head_of, postprocessing: "@postprocessing"}``.

    Args:
        postprocessing: a transform, a `Compose`, or a sequence of them.
    """
    if (said := getattr(postprocessing, "head", None)) in ("softmax", "sigmoid"):
        return cast(Literal["softmax", "sigmoid"], said)
    steps = list(_single_steps(postprocessing))
    if any(_does(step, "softmax") or _does(step, "argmax") for step in steps):
        return "softmax"
    if any(_does(step, "sigmoid") or _does(step, "threshold") for step in steps):
        return "sigmoid"
    names = (type(step).__name__ for step in steps)
    return next((_OF_ONE_FAMILY[name] for name in names if name in _OF_ONE_FAMILY), "auto")


def _single_steps(steps: Any) -> Iterator[Any]:
    if isinstance(steps, Compose):
        steps = steps.transforms
    if isinstance(steps, list | tuple):
        for step in steps:
            yield from _single_steps(step)
    else:
        yield steps


def _does(transform: Any, act: str) -> bool:
    """Whether one of MONAI's transforms does this to its first key: the prediction, which comes before the label."""
    if not isinstance(transform, Activations | Activationsd | AsDiscrete | AsDiscreted):
        return False
    value = getattr(transform, act, None)
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first is not None and first is not False
