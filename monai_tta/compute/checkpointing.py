"""Less memory for more time: keep only what enters a network's blocks, and compute the rest again on the way back.

Gradient checkpointing: Chen, Xu, Zhang, Guestrin 2016, arXiv 1604.06174, by `torch.utils.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _NormBase
from torch.utils.checkpoint import checkpoint

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
_MAPS = (_ConvNd, nn.Linear)


def checkpoint_blocks(module: nn.Module) -> int:
    """Make a private network forget the inside of its blocks while it learns; answers without gradient stay as fast as they were.

    Returns:
        how many blocks there are: the smallest modules that hold both a normalisation and a convolution or linear layer.
    """
    found = list(_blocks(module))
    for block in found:
        block.forward = partial(_again, block.forward)
    return len(found)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The smallest modules with both kinds of layers."""
    inner = [block for child in module.children() for block in _blocks(child)]
    if inner:
        yield from inner
    elif all(any(isinstance(m, kinds) for m in module.modules()) for kinds in (_NORMS, _MAPS)):
        yield module


def _again(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # Nothing is drawn in eval mode, so the caller's generators need no saving.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a network failed for want of memory, on a GPU or (by its allocator's words) on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
