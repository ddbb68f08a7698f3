"""Train an error decoder where the labels are: on source images, as simulated scanners would have made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_tta.compute.containers import main_output
from monai_tta.core.error_decoder import ErrorDecoder
from monai_tta.core.network_copy import in_eval_mode
from monai_tta.inference.network import Network, unwrap
from monai_tta.inference.prompt_arguments import PromptArguments, arguments_of


def train_error_decoder(
    network: Network,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    shifts: Sequence[Callable[[Tensor], Tensor]] = (),
    arguments: PromptArguments | None = None,
    given: dict[str, Any] | None = None,
    channels: Sequence[int] = (8, 16, 32),
    steps: int = 200,
    lr: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ErrorDecoder:
    """Teach a decoder where a network's prompt-less masks are wrong.

    Each step takes one image under one shift, in turn, lets the network answer it, and shows the decoder image and answer. Its
    target is 1 where mask and label differ (CoSAM, arXiv 2411.10136, 2024); its loss is binary cross-entropy plus Dice. The
    network is not changed. Loss, optimiser (Adam), architecture and shifts are ours: the paper's are not known to us.

    Shifts that you mean to test with are none to train with. On images that the network was trained on it errs too little.

    Args:
        network: promptable, or any whose logits are one channel per object.
        images: preprocessed windows ``(C, *spatial)``, of any sizes that the network takes.
        labels: masks ``(B, *spatial)`` of each image, one channel per object, not 0 inside.
        shifts: change how an image looks, such as `monai_tta.transforms.shift_mri.BiasFieldShift`; unchanged images are among the
            training images, too.
        arguments: by which keywords the network takes prompts; None for VISTA3D's where it has them, else SAM's.
        given: keyword arguments that the network needs, such as VISTA3D's ``class_vector``.
        channels: of the decoder's levels.
        steps: how many optimiser steps, of one image each.
        lr: the learning rate of Adam.
        seed: of the first weights and of the order of images; the caller's generators are untouched.
        progress: is called with the steps done and their total.

    Raises:
        ValueError: for no images, or labels that do not fit the answers.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"as many labels as images are needed, at least one, found {len(images)} and {len(labels)}")
    source = in_eval_mode(unwrap(network))
    arguments = arguments or arguments_of(source)
    looks: list[Callable[[Tensor], Tensor]] = [lambda image: image, *shifts]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = ErrorDecoder(images[0].shape[0], images[0].ndim - 1, channels).to(images[0].device)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=lr)
    overlap = DiceLoss(sigmoid=True)
    order: list[int] = []
    for step in range(steps):
        order = order or torch.randperm(len(images) * len(looks), generator=generator).tolist()
        number, look = divmod(order.pop(), len(looks))
        window = torch.as_tensor(looks[look](images[number]))[None].as_subclass(Tensor).float()
        p = _answer(source, window, arguments.without_prompts(given or {}))
        target = _wrong(p, labels[number])
        found = decoder.logits(window, p)
        loss = binary_cross_entropy_with_logits(found, target) + overlap(found, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress(step + 1, steps)
    return decoder.eval()


@torch.no_grad()
def _answer(source: nn.Module, window: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Probabilities ``(1, B, *spatial)`` of the prompt-less answer."""
    return main_output(source(window, **kwargs)).as_subclass(Tensor).float().sigmoid()


def _wrong(p: Tensor, label: Tensor) -> Tensor:
    """1 where the mask of probabilities ``(1, B, *spatial)`` differs from the label ``(B, *spatial)``, else 0.

    Raises:
        ValueError: when the shapes differ.
    """
    truth = torch.as_tensor(label).as_subclass(Tensor).to(p.device)[None] != 0
    if truth.shape != p.shape:
        raise ValueError(f"the network answers {tuple(p.shape[1:])} and the label is {tuple(truth.shape[1:])}: one channel each")
    return ((p > 0.5) != truth).float()
