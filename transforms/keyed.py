"""The dictionary form of an array transform, and a result with its image's meta data."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor


class KeyedTransform(MapTransform):
    """Apply an array transform to the given keys of a dictionary."""

    def __init__(self, keys: KeysCollection, transform: Callable[[Any], Any], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the results; the given one is not changed."""
        return dict(data) | {key: self.transform(data[key]) for key in self.key_iterator(data)}


class KeyedInvertible(KeyedTransform, InvertibleTransform):
    """A `KeyedTransform` whose array transform has an ``inverse``. `Compose.inverse` and `Invertd` undo it."""

    transform: Any

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary in which the given keys are as before the transform."""
        return dict(data) | {key: self.transform.inverse(data[key]) for key in self.key_iterator(data)}


def with_meta_of(out: Tensor, img: Any) -> Tensor:
    """The result with the image's meta data and history of transforms, where it has any.

    They are copied. Otherwise, undoing a step on the result would remove it from the image's own history.
    """
    return MetaTensor(out).copy_meta_from(img) if isinstance(img, MetaTensor) else out
