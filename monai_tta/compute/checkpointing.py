"""Gradient checkpointing: less memory for more time.

Only the inputs of a network's blocks are kept. What is inside a block is computed again in the backward pass. Chen, Xu, Zhang,
Guestrin 2016, arXiv 1604.06174, by `torch.utils.checkpoint`.
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
_LINEAR_LAYERS = (_ConvNd, nn.Linear)


def checkpoint_blocks(module: nn.Module) -> int:
    """Checkpoint the blocks of a private copy of a network, in place. Passes without gradient stay as fast as they were.

    A block is a smallest module that holds both a normalisation layer and a convolution or linear layer.

    Returns:
        how many blocks were found.
    """
    blocks = list(_blocks(module))
    for block in blocks:
        block.forward = partial(checkpointed, block.forward)
    return len(blocks)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The smallest modules that hold both kinds of layers."""
    inner = [block for child in module.children() for block in _blocks(child)]
    if inner:
        yield from inner
    elif all(any(isinstance(m, kinds) for m in module.modules()) for kinds in (_NORMS, _LINEAR_LAYERS)):
        yield module


def checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a block's own forward pass, keeping only its inputs for the backward pass."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # In eval mode no random numbers are drawn, so the generators' state need not be saved.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out, on a GPU or on the CPU, whose allocator has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
