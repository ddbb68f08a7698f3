"""The contract of guards: check a case's `Evidence`; return a reason to refuse its adapted answer, or None.

A guard is a value: frozen, hashable, picklable, and equal to what its repr evaluates to. A callable
``(unadapted, adapted, head) -> str | None`` of logits ``(1, K, *spatial)`` can stand in a guard's place. It costs an unadapted
answer of the whole image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from monai_tta.guards.evidence import Evidence


def finite_answer(unadapted: Tensor, adapted: Tensor, head: str) -> str | None:
    """Refuse an adapted answer with NaN or infinity where the unadapted one has none.

    An image's own NaN is in both answers; that is no fault of adaptation.

    Args:
        unadapted: logits of the source network, ``(1, K, *spatial)``.
        adapted: logits of the shadow, of the same shape.
        head: what the logits stand for; makes no difference here.
    """
    return "the adapted answer is not finite" if bool((unadapted.isfinite() & ~adapted.isfinite()).any()) else None


class Guard(ABC):
    """A check that decides whether an adapted answer is kept."""

    @abstractmethod
    def check(self, evidence: Evidence) -> str | None:
        """Check one case.

        Args:
            evidence: what the case shows without a label. Each part is computed when it is first read, so read few.

        Returns:
            a reason to refuse in words without names, or None.
        """


@dataclass(frozen=True)
class FromAnswers(Guard):
    """Check by a callable. Costs an unadapted answer of the whole image.

    Args:
        function: takes unadapted logits and adapted logits, both ``(1, K, *spatial)``, and the head ("softmax" or "sigmoid");
            returns a reason to refuse, or None.
    """

    function: Callable[[Tensor, Tensor, str], str | None]

    def check(self, evidence: Evidence) -> str | None:
        """What the callable returns."""
        return self.function(evidence.unadapted, evidence.adapted, evidence.head)


def as_guard(guard: Any) -> Guard:
    """A guard unchanged, a callable as `FromAnswers`.

    Args:
        guard: a `Guard`, or a callable ``(unadapted, adapted, head) -> reason or None``.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(guard, Guard):
        return guard
    if callable(guard) and not isinstance(guard, type):
        return FromAnswers(guard)
    raise ValueError(
        f"guard is a monai_tta.guards.Guard such as VolumeChange(), or a callable (unadapted, adapted, head) -> reason or None; "
        f"found {guard!r}"
    )


@dataclass(frozen=True)
class AllOf(Guard):
    """Refuse for the first reason that any of several guards finds.

    Args:
        guards: guards and callables. They check in this order, so put cheap ones first.

    Raises:
        ValueError: for something that is neither a guard nor a callable.
    """

    guards: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "guards", tuple(self.guards))
        for guard in self.guards:
            as_guard(guard)

    def check(self, evidence: Evidence) -> str | None:
        """The first reason. Guards after it check nothing and cost nothing."""
        return next((reason for guard in self.guards if (reason := as_guard(guard).check(evidence)) is not None), None)


def require(holds: bool, name: str, expected: str, found: Any) -> None:
    """Refuse a meaningless value of an argument.

    Raises:
        ValueError: saying what ``name`` is and what was found, unless the condition ``holds``.
    """
    if not holds:
        raise ValueError(f"{name} is {expected}; found {found!r}")
