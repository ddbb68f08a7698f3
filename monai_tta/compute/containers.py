"""The containers that networks return: a tensor, or sequences, named tuples and dictionaries of these, nested in any way.

One of the tensors is the *main output*, the one that is adapted and that masks are made of. `place_of_main` says which.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

Place = tuple[Any, ...]  # the keys and numbers that lead to a tensor; empty for a tensor that is in no container
Name = str | int

# What networks call their segmentation in a dictionary: torchvision's and many others "out", HoVerNet "nucleus_prediction".
MAIN_NAMES = (
    *("out", "output", "logits", "pred", "preds", "prediction", "seg", "segmentation", "seg_logits", "seg_pred"),
    *("mask", "masks", "main", "nucleus_prediction"),
)


class NoMainOutput(LookupError):
    """It cannot be told which of several outputs is the main one, or the named one is not there."""


def place_of_main(outputs: Any, *, name: Name | None = None, spatial: Sequence[int] | None = None, last: bool = False) -> Place:
    """Where the main output is.

    A named one is where its name says. Else, in a sequence, it is the first output of the windows' own size, or the first where
    none has that size. In a dictionary it is the only entry, the only one with a name of `MAIN_NAMES`, or the only one of the
    windows' own size.

    Args:
        outputs: what a network returned.
        name: a key of a dictionary, a field of a named tuple, or a number, negative from the end; None where nobody says.
        spatial: the windows' size; None where it is not known.
        last: whether the last of a sequence comes first.

    Raises:
        NoMainOutput: for a dictionary in which none of this holds, or a name that is not there.
    """
    if isinstance(outputs, Tensor) or not _is_container(outputs):
        if name in (None, 0):
            return ()
        raise NoMainOutput(f"the network returns one output, so there is none called {name!r}")
    key = _key_of_name(outputs, name) if name is not None else _usual_key(outputs, spatial, last)
    return (key, *place_of_main(outputs[key], spatial=spatial, last=last))


def at_place(outputs: Any, place: Place) -> Any:
    """What is at a place. A tensor in no container is the output itself: stitchers return a single output so."""
    for key in place:
        if isinstance(outputs, Tensor):
            return outputs
        outputs = outputs[key]
    return outputs


def put_at(outputs: Any, place: Place, value: Any) -> Any:
    """A container of the same types with another value at a place."""
    if not place or isinstance(outputs, Tensor):
        return value
    key, *rest = place
    inner = put_at(outputs[key], tuple(rest), value)
    if isinstance(outputs, dict):
        out = copy.copy(outputs)
        out[key] = inner
        return out
    values = [inner if number == key else output for number, output in enumerate(outputs)]
    return type(outputs)(*values) if hasattr(outputs, "_fields") else type(outputs)(values)


def main_output(outputs: Any, name: Name | None = None, spatial: Sequence[int] | None = None) -> Any:
    """The main output, see `place_of_main`."""
    return at_place(outputs, place_of_main(outputs, name=name, spatial=spatial))


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


def _is_container(outputs: Any) -> bool:
    return isinstance(outputs, dict | list | tuple) and bool(outputs)


def _keys(outputs: Any) -> Iterable[Any]:
    return outputs if isinstance(outputs, dict) else range(len(outputs))


def _key_of_name(outputs: Any, name: Name) -> Any:
    """The key or number of a named output."""
    if isinstance(outputs, dict):
        for key in outputs:
            if name == key or str(name) == str(key):
                return key
    elif name in (fields := getattr(outputs, "_fields", ())):
        return fields.index(name)
    else:
        number = int(name) if str(name).lstrip("-").isdecimal() else None
        if number is not None and -len(outputs) <= number < len(outputs):
            return number % len(outputs)
    raise NoMainOutput(f"the network returns {_listed(outputs)}, and none of these is called {name!r}")


def _usual_key(outputs: Any, spatial: Sequence[int] | None, last: bool) -> Any:
    """The key or number of the main output where nobody names it."""
    fitting = [key for key in _keys(outputs) if spatial is not None and _has_size(outputs[key], spatial)]
    if not isinstance(outputs, dict):
        order = fitting or list(_keys(outputs))
        return order[-1 if last else 0]
    if len(outputs) == 1:
        return next(iter(outputs))
    for choices in ([key for key in outputs if str(key).lower() in MAIN_NAMES], fitting):
        if len(choices) == 1:
            return choices[0]
    raise NoMainOutput(
        f"the network returns {_listed(outputs)}, and which of these is the main one cannot be told; name it: main_output="
    )


def _has_size(output: Any, spatial: Sequence[int]) -> bool:
    """Whether an output, or the first of an inner sequence, has one value per channel and voxel of the windows."""
    while isinstance(output, list | tuple) and output:
        output = output[0]
    return isinstance(output, Tensor) and tuple(output.shape[2:]) == tuple(spatial)


def _listed(outputs: Any) -> str:
    names = outputs if isinstance(outputs, dict) else getattr(outputs, "_fields", None)
    if names is None:
        return f"{len(outputs)} outputs, numbered from 0"
    return f"several outputs, {', '.join(repr(name) for name in names)}"
