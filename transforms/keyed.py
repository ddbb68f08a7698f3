"""The dictionary form of an array transform."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform


class KeyedTransform(MapTransform):
    """Apply an array transform to each of the given keys of a dictionary."""

    def __init__(self, keys: KeysCollection, transform: Callable[[Any], Any], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary; the given one stays."""
        return dict(data) | {key: self.transform(data[key]) for key in self.key_iterator(data)}
