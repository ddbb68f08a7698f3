"""The contract of guards: look at a case's `Evidence`, return a reason to refuse the adapted answer, or None.

A guard is a value (frozen, hashable, picklable, rebuilt from its repr), or any callable ``(plain, adapted, head) -> str | None``
of logits ``(N, K, *spatial)``, which costs a plain answer of the whole image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from monai_tta.guards.evidence import Evidence


def finite_answer(unadapted: Tensor, adapted: Tensor, head: str) -> str | None:
    """Refuse an answer with NaN or infinity where the plain one has none (an image's own NaN is not adaptation's fault)."""
    return "the adapted answer is not finite" if bool((unadapted.isfinite() & ~adapted.isfinite()).any()) else None


class Guard(ABC):
    """Look at a case and say whether to keep its adapted answer. Members of the evidence cost what they cost: use few."""

    @abstractmethod
    def check(self, evidence: Evidence) -> str | None:
        """A reason to refuse in words without names, or None."""


@dataclass(frozen=True)
class FromAnswers(Guard):
    """Ask a callable ``(plain, adapted, head) -> str | None``; costs a plain answer of the whole image."""

    function: Callable[[Tensor, Tensor, str], str | None]

    def check(self, evidence: Evidence) -> str | None:
        """What the callable says."""
        return self.function(evidence.unadapted, evidence.adapted, evidence.head)


def as_guard(guard: Any) -> Guard:
    """A guard as it is, a callable as `FromAnswers`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(guard, Guard):
        return guard
    if callable(guard) and not isinstance(guard, type):
        return FromAnswers(guard)
    raise ValueError(
        f"guard is a monai_tta.guards.Guard such as VolumeChange(), or a callable (plain, adapted, head) -> reason or None; "
        f"found {guard!r}"
    )


@dataclass(frozen=True)
class AllOf(Guard):
    """Refuse for the first reason that one of several guards has, in their order: put the cheap ones first."""

    guards: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "guards", tuple(self.guards))
        for guard in self.guards:
            as_guard(guard)

    def check(self, evidence: Evidence) -> str | None:
        """The first reason; the guards after it are not asked."""
        return next((reason for guard in self.guards if (reason := as_guard(guard).check(evidence)) is not None), None)


def demand(holds: bool, name: str, what: str, found: Any) -> None:
    """Refuse a choice of a guard's that makes no sense.

    Raises:
        ValueError: saying what ``name`` is and what was found.
    """
    if not holds:
        raise ValueError(f"{name} is {what}; found {found!r}")
