"""For several processes that adapt one network: a vote, and means over `torch.distributed`."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def all_agree(agrees: bool) -> bool:
    """Whether all processes agree. Every process must call this, or the others wait."""
    kind = "cuda" if dist.get_backend() == "nccl" else "cpu"
    vote = torch.tensor(float(agrees), device=kind)
    dist.all_reduce(vote, op=dist.ReduceOp.MIN)
    return bool(vote)


def mean_over_processes(value: float, gradient: list[Tensor | None]) -> tuple[float, list[Tensor | None]]:
    """Average a loss and its gradient over all processes, which must call this in the same order.

    A part of the gradient that is None in one process is None in all of them, because they adapt the same network.
    """
    parts = [part for part in gradient if part is not None]
    if not parts:
        return value, gradient
    flat = torch.cat([part.flatten() for part in parts] + [parts[0].new_tensor([value])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = iter(flat[:-1].split([part.numel() for part in parts]))
    return float(flat[-1]), [None if part is None else next(means).view_as(part) for part in gradient]
