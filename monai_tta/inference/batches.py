"""Split a batch of images into single ones, and put their answers back together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_tta.compute.containers import map_tensors


def single_images(
    inputs: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[Tensor, tuple[Any, ...], dict[str, Any]]]:
    """Each image of a batch ``(N, C, *spatial)``, with what else belongs to it; the only one of a batch as it is."""
    n = len(inputs)
    if n == 1:
        yield inputs, args, kwargs
        return
    for i in range(n):
        own_args = tuple(_of_image(value, i, n) for value in args)
        yield inputs[i : i + 1], own_args, {key: _of_image(value, i, n) for key, value in kwargs.items()}


def _of_image(value: Any, i: int, n: int) -> Any:
    """What belongs to image ``i`` of ``n``: a tensor with one entry per image is split like the images."""
    return value[i : i + 1] if isinstance(value, Tensor) and value.ndim and len(value) == n else value


def _joined(*leaves: Any) -> Any:
    """Single images' leaves as one batch. A scalar (a loss in a network's answer) becomes its mean; anything else is the first
    image's."""
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        return leaves[0]
    plain = [leaf.as_tensor() if isinstance(leaf, MetaTensor) else leaf for leaf in leaves]
    return torch.cat(plain) if plain[0].ndim else torch.stack(plain).mean(0)


def batched(answers: list[Any], inputs: Tensor) -> Any:
    """Put single images' answers back into one batch, container by container; a single one stays as it is."""
    if len(answers) == 1:
        return answers[0]

    def join(*leaves: Any) -> Any:
        joined = _joined(*leaves)
        return MetaTensor(joined).copy_meta_from(inputs, copy_attr=False) if isinstance(leaves[0], MetaTensor) else joined

    return map_tensors(join, *answers)
