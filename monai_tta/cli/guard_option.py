"""Guards from the command line: ``--guard NAME[:VALUE]``. Where several are given, each must accept the adapted answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.pipeline.match_names import match_name

if TYPE_CHECKING:
    from monai_tta.guards import Guard, ReferenceRanges


@dataclass(frozen=True)
class GuardOption:
    """A guard that the command line knows.

    ``kind`` is its class in `monai_tta.guards`; ``value`` the argument that a VALUE gives, None where it takes none; ``whole``
    whether that is a whole number; ``reference`` whether it can compare with reference ranges; ``bare`` whether it works
    without a value and without reference ranges.
    """

    kind: str
    value: str | None = None
    whole: bool = False
    reference: bool = False
    bare: bool = True


GUARDS = {
    "finite": GuardOption("Finite"),
    "volume-change": GuardOption("VolumeChange", "most"),
    "agreement": GuardOption("Agreement", "least"),
    "view-agreement": GuardOption("ViewAgreement", "drop"),
    "weight-distance": GuardOption("WeightDistance", "most"),
    "components": GuardOption("Components", "most", whole=True),
    "entropy": GuardOption("Entropy", "most", reference=True, bare=False),
    "distance": GuardOption("Distance", "most", reference=True, bare=False),
    "shape": GuardOption("Shape", reference=True, bare=False),
}


def check_guard_names(texts: Sequence[str]) -> None:
    """Check the names in "NAME" or "NAME:VALUE", without importing torch.

    Raises:
        ValueError: for an unknown name; the message suggests the nearest one and lists all.
    """
    for text in texts:
        match_name("guard", text.partition(":")[0], GUARDS)


def parse_guards(texts: Sequence[str], reference: Path | None = None) -> Guard | None:
    """All guards named, in their order; None for none.

    Args:
        texts: each "NAME" or "NAME:VALUE", e.g. "volume-change:0.3"; see ``docs/guards.md``.
        reference: a file that `monai-tta reference` wrote, for guards that compare with the source's cases.

    Raises:
        ValueError: for an unknown name, a value that is no number or out of range, or reference ranges that are missing.
    """
    check_guard_names(texts)

    from monai_tta.guards import AllOf, read_reference_ranges

    if not texts:
        return None
    known = None if reference is None else read_reference_ranges(reference)
    guards = tuple(_parse_guard(text, known) for text in texts)
    return guards[0] if len(guards) == 1 else AllOf(guards)


def _parse_guard(text: str, reference: ReferenceRanges | None) -> Guard:
    from monai_tta import guards

    written, colon, value = text.partition(":")
    name = match_name("guard", written, GUARDS)
    option = GUARDS[name]
    given: dict[str, Any] = {}
    if colon:
        if option.value is None:
            raise ValueError(f"guard {name} takes no value, found {value!r}")
        given[option.value] = _number(name, value, option.whole)
    elif option.reference and reference is not None:
        given["reference"] = reference
    elif not option.bare:
        or_value = f", or a value, as in {name}:0.5" if option.value else ""
        raise ValueError(f"guard {name} needs --reference FILE, which `monai-tta reference` writes{or_value}")
    guard: Guard = getattr(guards, option.kind)(**given)
    return guard


def _number(name: str, text: str, whole: bool) -> float:
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise ValueError(f"guard {name} takes a number, found {text!r}")
    return int(number) if whole and number.is_integer() else number
