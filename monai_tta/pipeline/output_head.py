"""What a bundle's logits stand for, and which outputs its masks are made of, as its own postprocessing tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from monai.transforms import (
    Activations,
    Activationsd,
    AsDiscrete,
    AsDiscreted,
    Compose,
    CopyItemsd,
    FlattenSubKeysd,
    Lambda,
    Lambdad,
    ToDeviced,
)

# Transforms for the answers of one family of networks, by the class's name, because their modules need extras. VISTA3D's asks for
# each prompt's channel whether it is above zero; HoVerNet's takes the softmax of nucleus and background.
_OF_ONE_FAMILY: dict[str, Literal["softmax", "sigmoid"]] = {
    "VistaPostTransformd": "sigmoid",
    "HoVerNetInstanceMapPostProcessingd": "softmax",
}

_ANY_CONTAINER = (CopyItemsd, ToDeviced)  # these say nothing of what they are handed


def head_of(postprocessing: Any) -> Literal["softmax", "sigmoid", "auto"]:
    """Tell "softmax" from "sigmoid"; "auto" where the postprocessing does not say.

    Softmax or argmax mean "softmax". A sigmoid, or a threshold without a softmax, means "sigmoid". The transforms for HoVerNet's
    answers mean "softmax", those for VISTA3D's "sigmoid". An export of nnU-Net says it in its ``head``. Overlays use it as
    ``head: {_target_: monai_tta.pipeline.output_head.head_of, postprocessing: "@postprocessing"}``.

    Args:
        postprocessing: a transform, a `Compose`, or a sequence of them.
    """
    steps = list(single_steps(postprocessing))
    for said in (getattr(step, "head", None) for step in steps):
        if said in ("softmax", "sigmoid"):
            return cast(Literal["softmax", "sigmoid"], said)
    if any(_does(step, "softmax") or _does(step, "argmax") for step in steps):
        return "softmax"
    if any(_does(step, "sigmoid") or _does(step, "threshold") for step in steps):
        return "sigmoid"
    names = (type(step).__name__ for step in steps)
    return next((_OF_ONE_FAMILY[name] for name in names if name in _OF_ONE_FAMILY), "auto")


def takes_main_only(postprocessing: Any) -> bool:
    """Whether a bundle's postprocessing works on one tensor, so that of several outputs it should get the main one alone.

    It does where the first transform of the prediction is one of MONAI's for tensors. One that takes a dictionary apart
    (`FlattenSubKeysd`), one of the bundle's own, and a `Lambdad` get all that the network returns, as `monai.bundle run` hands it
    over. Overlays use it like `head_of`, as ``main_only``.

    Args:
        postprocessing: a transform, a `Compose`, or a sequence of them.
    """
    for step in single_steps(postprocessing):
        if "pred" not in getattr(step, "keys", ("pred",)) or isinstance(step, _ANY_CONTAINER):
            continue
        return type(step).__module__.startswith("monai.") and not isinstance(step, FlattenSubKeysd | Lambda | Lambdad)
    return True


def single_steps(steps: Any) -> Iterator[Any]:
    """Every transform of a `Compose` or of sequences of transforms, in order.

    Args:
        steps: a transform, a `Compose`, or a sequence of them.
    """
    if isinstance(steps, Compose):
        steps = steps.transforms
    if isinstance(steps, list | tuple):
        for step in steps:
            yield from single_steps(step)
    else:
        yield steps


def _does(transform: Any, act: str) -> bool:
    """Whether one of MONAI's transforms does this to its first key: the prediction, which comes before the label."""
    if not isinstance(transform, Activations | Activationsd | AsDiscrete | AsDiscreted):
        return False
    value = getattr(transform, act, None)
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first is not None and first is not False
