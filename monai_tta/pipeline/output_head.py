"""Reading a bundle's intentions: what its logits stand for, from what its own postprocessing does with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from monai.transforms import Activations, Activationsd, AsDiscrete, AsDiscreted, Compose

# Transforms that finish one network family's answer, by the class's name (their modules need extras): VISTA3D's asks
# each prompt's channel whether it is above zero, HoVerNet's takes the softmax of nucleus and background.
_FINISHERS: dict[str, Literal["softmax", "sigmoid"]] = {
    "VistaPostTransformd": "sigmoid",
    "HoVerNetInstanceMapPostProcessingd": "softmax",
}


def head_of(postprocessing: Any) -> Literal["softmax", "sigmoid", "auto"]:
    """ "softmax", "sigmoid", or "auto" where the postprocessing does not say.

    Softmax or argmax say "softmax"; sigmoid, or a threshold without a softmax, says "sigmoid"; so do the transforms that
    finish the answers of HoVerNet ("softmax") and VISTA3D ("sigmoid"). Overlays use it as
    ``head: {_target_: monai_tta.pipeline.output_head.head_of, postprocessing: "@postprocessing"}``.

    Args:
        postprocessing: a transform, a `Compose`, or a sequence of them.
    """
    steps = list(_flat(postprocessing))
    if any(_has(t, "softmax") or _has(t, "argmax") for t in steps):
        return "softmax"
    if any(_has(t, "sigmoid") or _has(t, "threshold") for t in steps):
        return "sigmoid"
    return next((_FINISHERS[name] for t in steps if (name := type(t).__name__) in _FINISHERS), "auto")


def _flat(steps: Any) -> Iterator[Any]:
    if isinstance(steps, Compose):
        steps = steps.transforms
    if isinstance(steps, list | tuple):
        for step in steps:
            yield from _flat(step)
    else:
        yield steps


def _has(transform: Any, act: str) -> bool:
    """Whether a transform of MONAI's does this to its first key (the prediction; labels come after it)."""
    if not isinstance(transform, Activations | Activationsd | AsDiscrete | AsDiscreted):
        return False
    value = getattr(transform, act, None)
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first is not None and first is not False
