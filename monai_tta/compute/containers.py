"""What networks answer in: a tensor, or sequences, named tuples and dictionaries of such, nested at will."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor


def main_output(outputs: Any, key: Any = None) -> Tensor:
    """The main output: the tensor itself, the first of a sequence, or a dictionary's value.

    Args:
        outputs: what a network or an inferer answered.
        key: which value of a dictionary; the first unless it is there. MONAI's sliding windows sort a network's keys, so
            whoever looks at a stitched answer gives the key that came first in the network's.
    """
    if isinstance(outputs, dict) and outputs:
        return main_output(outputs[key] if key in outputs else next(iter(outputs.values())))
    if isinstance(outputs, list | tuple) and outputs:
        return main_output(outputs[0])
    return outputs


def map_tensors(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Apply a function to the leaves of one answer, or to those of several alike; the containers keep their kind."""
    if isinstance(first, dict):
        out = copy.copy(first)
        out.update((key, map_tensors(function, first[key], *(o[key] for o in others))) for key in first)
        return out
    if isinstance(first, list | tuple):
        values = [map_tensors(function, *parts) for parts in zip(first, *others, strict=True)]
        return type(first)(*values) if hasattr(first, "_fields") else type(first)(values)
    return function(first, *others)
