"""Several processes that learn together: votes and means over `torch.distributed`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

_TOGETHER: ContextVar[bool] = ContextVar("together", default=False)


@contextmanager
def together() -> Iterator[None]:
    """Inside, gradients are means over all processes of `torch.distributed`, which must take the same ones in turn, so that
    cosines and steps come out the same everywhere."""
    token = _TOGETHER.set(True)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


def all_agree(agrees: bool) -> bool:
    """Whether all processes agree; each must ask."""
    kind = "cuda" if dist.get_backend() == "nccl" else "cpu"
    vote = torch.tensor(float(agrees), device=kind)
    dist.all_reduce(vote, op=dist.ReduceOp.MIN)
    return bool(vote)


def _shared(value: float, slope: list[Tensor | None]) -> tuple[float, list[Tensor | None]]:
    """The means over processes of a loss and its gradient; a part that is None here is None everywhere."""
    parts = [part for part in slope if part is not None]
    if not parts:
        return value, slope
    flat = torch.cat([part.flatten() for part in parts] + [parts[0].new_tensor([value])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = iter(flat[:-1].split([part.numel() for part in parts]))
    return float(flat[-1]), [None if part is None else next(means).view_as(part) for part in slope]
