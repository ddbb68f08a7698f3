"""Values as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any


def finite_json(value: Any) -> Any:
    """A value in which numbers that JSON has no word for, NaN and infinity, are None.

    Args:
        value: what JSON can hold but for these; it is not changed.
    """
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite_json(inner) for key, inner in value.items()}
    return [finite_json(inner) for inner in value] if isinstance(value, list | tuple) else value
