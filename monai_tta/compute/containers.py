"""The containers that networks return: a tensor, or sequences, named tuples and dictionaries of these, nested in any way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor


def main_output(outputs: Any, key: Any = None) -> Tensor:
    """The main output: the tensor itself, the first of a sequence, or one value of a dictionary.

    Args:
        outputs: what a network or an inferer returned.
        key: which value of a dictionary; the first where there is no such key. MONAI's sliding windows sort the keys, so after
            them the first key of the network's own dictionary must be given.
    """
    if isinstance(outputs, dict) and outputs:
        return main_output(outputs[key] if key in outputs else next(iter(outputs.values())))
    if isinstance(outputs, list | tuple) and outputs:
        return main_output(outputs[0])
    return outputs


def map_tensors(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Apply a function to the leaves of a container, or to the corresponding leaves of several containers of one structure.

    Returns:
        a container of the same types with the function's results.
    """
    if isinstance(first, dict):
        out = copy.copy(first)
        out.update((key, map_tensors(function, first[key], *(other[key] for other in others))) for key in first)
        return out
    if isinstance(first, list | tuple):
        values = [map_tensors(function, *parts) for parts in zip(first, *others, strict=True)]
        return type(first)(*values) if hasattr(first, "_fields") else type(first)(values)
    return function(first, *others)
