"""How a network ends: whether what it returns has just gone through a sigmoid or a softmax, by module or by function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Ending = Literal["probability", "log of probability"]

_TO_PROBABILITY = {"sigmoid", "softmax", "hardsigmoid"}
_TO_LOG = {"log_softmax", "log_sigmoid", "log_sigmoid_forward"}
_CLAMPS = {"clamp", "hardtanh", "clamp_max"}
# What has a probability for each voxel as long as all that goes in has: changes of layout, type and size, averages and products.
_KEEPS = set(
    "alias as_strided view unsafe_view reshape flatten squeeze unsqueeze expand permute transpose movedim slice "
    "select narrow index index_select split chunk unbind cat stack flip roll clone contiguous to to_copy copy "
    "lift_fresh detach constant_pad_nd pad masked_fill where upsample_nearest1d upsample_nearest2d "
    "upsample_nearest3d upsample_bilinear2d upsample_trilinear3d avg_pool2d avg_pool3d max_pool2d_with_indices "
    "max_pool3d_with_indices mean amax amin max min add sub rsub mul div pow clamp clamp_min clamp_max maximum "
    "minimum lerp nan_to_num".split()
)


class WatchEndings(TorchDispatchMode):
    """A ``with`` block that follows each tensor from the operation that made it. It changes no number and keeps no tensor.

    What is known belongs to a tensor's memory, so views of it and writes into it are followed, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._endings: dict[int, Ending] = {}

    def ending_of(self, output: Any) -> Ending | None:
        """How a tensor that was made in the block ends; None for anything else than a probability or its logarithm."""
        return self._endings.get(_memory(output)) if isinstance(output, Tensor) else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note what it made."""
        given = [tensor for tensor in _float_tensors((*args, *(kwargs or {}).values())) if tensor.ndim]  # numbers are no answers
        endings = {self._endings.get(_memory(tensor)) for tensor in given}
        outputs = func(*args, **(kwargs or {}))
        if func.is_view:
            return outputs
        name = func._schema.name.split("::")[-1].strip("_")
        if name == "copy":
            endings = {self._endings.get(_memory(args[1]))} if isinstance(args[1], Tensor) else {None}
        made = _ending(name, args, endings)
        for output in _float_tensors(outputs if isinstance(outputs, list | tuple) else (outputs,)):
            if made is None:
                self._endings.pop(_memory(output), None)
            else:
                self._endings[_memory(output)] = made
        return outputs


def _ending(name: str, args: Sequence[Any], given: set[Ending | None]) -> Ending | None:
    """What an operation makes of what it was given."""
    if name in _TO_PROBABILITY:
        return "probability"
    if name in _TO_LOG:
        return "log of probability"
    if name in _CLAMPS and given != {"probability"} and _clamps_to_unit(name, args[1:]):
        return "probability"
    if len(given) != 1 or None in given:
        return None
    (known,) = given
    if name in ("exp", "log"):
        return "probability" if name == "exp" else "log of probability"
    return known if name in _KEEPS else None


def _clamps_to_unit(name: str, limits: Sequence[Any]) -> bool:
    low, high = (0, limits[0]) if name == "clamp_max" else (*limits, None, None)[:2]
    return isinstance(low, int | float) and isinstance(high, int | float) and 0 <= low < high <= 1


def _memory(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own: sparse, or of another package
        return id(tensor)


def _float_tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            if value.is_floating_point():
                yield value
        elif isinstance(value, list | tuple):
            yield from _float_tensors(value)


def watched(ask: Callable[[], Any]) -> tuple[Any, WatchEndings]:
    """Call ``ask``, and watch how what it returns was made."""
    with WatchEndings() as endings:
        outputs = ask()
    return outputs, endings
