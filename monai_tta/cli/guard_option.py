"""Guards from the command line: ``--guard NAME[:VALUE]``, several of which must all be content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

from monai_tta import guards
from monai_tta.guards import Guard, ReferenceRanges, read_reference_ranges

_NUMBERS: dict[str, Callable[[float], Guard]] = {
    "volumechange": guards.VolumeChange,
    "agreement": guards.Agreement,
    "viewagreement": guards.ViewAgreement,
    "weightdistance": guards.WeightDistance,
    "components": lambda most: guards.Components(int(most) if most.is_integer() else most),  # type: ignore[arg-type]
    "entropy": lambda most: guards.Entropy(most=most),
    "distance": lambda most: guards.Distance(most=most),
}
_PLAIN: dict[str, Callable[[], Guard]] = {
    "finite": guards.Finite,
    "volumechange": guards.VolumeChange,
    "agreement": guards.Agreement,
    "viewagreement": guards.ViewAgreement,
    "weightdistance": guards.WeightDistance,
    "components": guards.Components,
}
_NORMS: dict[str, Callable[[ReferenceRanges], Guard]] = {
    "shape": guards.Shape,
    "entropy": lambda reference: guards.Entropy(reference=reference),
    "distance": lambda reference: guards.Distance(reference=reference),
}
NAMES = "finite, volume-change, agreement, view-agreement, weight-distance, components, entropy, distance, shape"


def parse_guards(said: Sequence[str], reference: Path | None = None) -> Guard | None:
    """All guards named, in their order; None for none.

    Args:
        said: each "NAME" or "NAME:VALUE", e.g. "volume-change:0.3"; see ``docs/guards.md``.
        reference: a file of `monai-tta reference`, for those that compare with the source's cases.

    Raises:
        ValueError: for an unknown name, a value that is no number or makes no sense, or reference ranges that are missing.
    """
    if not said:
        return None
    known = None if reference is None else read_reference_ranges(reference)
    made = tuple(_one(words, known) for words in said)
    return made[0] if len(made) == 1 else guards.AllOf(made)


def _one(words: str, reference: ReferenceRanges | None) -> Guard:
    name, colon, value = words.partition(":")
    key = name.lower().replace("-", "").replace("_", "")
    kinds: list[dict[str, Any]] = [_NUMBERS, _PLAIN, _NORMS]
    if not any(key in kind for kind in kinds):
        raise ValueError(f"no guard {name!r}; choose of {NAMES}")
    if colon:
        if key not in _NUMBERS:
            raise ValueError(f"guard {name} takes no value, found {value!r}")
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not isfinite(number):
            raise ValueError(f"guard {name} takes a number, found {value!r}")
        return _NUMBERS[key](number)
    if key in _NORMS and reference is not None:
        return _NORMS[key](reference)
    if key not in _PLAIN:
        value_too = f" or a value, as in {name}:0.5" if key in _NUMBERS else ""
        raise ValueError(f"guard {name} needs --reference FILE, which `monai-tta reference` writes{value_too}")
    return _PLAIN[key]()
