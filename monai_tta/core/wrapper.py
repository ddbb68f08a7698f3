"""Plug-ins around a method: what they do not override is the inner method's."""

from __future__ import annotations

from abc import update_abstractmethods
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import repr_for_records

_Class = TypeVar("_Class", bound=type)


def pass_on(contract: type) -> Callable[[_Class], _Class]:
    """Class decorator for wrappers: pass every public member of a contract on to ``self.inner``, unless the class overrides it.

    The members are read from the contract itself, so that a new one cannot be forgotten.
    """

    def decorate(cls: _Class) -> _Class:
        for name, member in vars(contract).items():
            if not name.startswith("_") and name not in vars(cls):
                setattr(cls, name, _passed_on(name, member))
        update_abstractmethods(cls)
        return cls

    return decorate


def _passed_on(name: str, member: Any) -> Any:
    """A property or a method that is the inner method's."""
    if isinstance(member, property):
        return property(lambda wrapper: getattr(wrapper.inner, name), doc=member.__doc__)

    @wraps(member)
    def call(wrapper: Wrapper, *args: Any, **kwargs: Any) -> Any:
        return getattr(wrapper.inner, name)(*args, **kwargs)

    call.__isabstractmethod__ = False  # type: ignore[attr-defined]
    return call


@pass_on(AdaptationMethod)
@dataclass(frozen=True, kw_only=True)
class Wrapper(AdaptationMethod):
    """A plug-in around another method. Override what the plug-in improves; everything else is the inner method's.

    Args:
        inner: the method around which it is put.
    """

    inner: AdaptationMethod

    if TYPE_CHECKING:  # `pass_on` gives the class these, which a type checker cannot see
        begin = AdaptationMethod.begin
        loss = AdaptationMethod.loss
        adapt = AdaptationMethod.adapt

    @property
    def record_name(self) -> str:
        """Its repr, with the inner method as records call that."""
        return repr_for_records(self)

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """The same plug-in around the inner method with what belongs to one checkpoint."""
        return replace(self, inner=self.inner.for_checkpoint(weights))

    def with_lr(self, lr: float) -> AdaptationMethod:
        """The same plug-in around the inner method at another learning rate."""
        return replace(self, inner=self.inner.with_lr(lr))
