"""Train a source with auxiliary heads, by a handler of MONAI's `SupervisedTrainer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn

from monai_tta.core.auxiliary_heads import denoising_loss, reconstruction_loss, rotation_loss, super_resolution_loss
from monai_tta.inference.network import unwrap


class AuxiliaryHeadsHandler:
    """Add the four self-supervised losses of `monai_tta.core.auxiliary_heads` to each training step's loss.

    They are added before the backward pass, so they go through the trainer's own optimiser, amp and distributed set-up.

    Args:
        weight: of the sum of the four.
        deviation: of the noise to be removed, in units of the image.
        seed: noise and poses depend on it and on the iteration's number alone.
    """

    def __init__(self, weight: float = 0.25, deviation: float = 0.1, seed: int = 0) -> None:
        self.weight = weight
        self.deviation = deviation
        self.seed = seed

    def attach(self, engine: Any) -> None:
        """Register the handler with a trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Add the four losses to the step's loss, before its backward pass."""
        output = engine.state.output
        first_seed = (self.seed * 1_000_003 + engine.state.iteration) * 4096
        added = self.losses(engine.network, output[CommonKeys.IMAGE], first_seed)
        output[CommonKeys.LOSS] = output[CommonKeys.LOSS] + self.weight * added

    def losses(self, network: Any, images: Tensor, first_seed: int) -> Tensor:
        """The sum of the four losses.

        Args:
            network: with auxiliary heads.
            images: ``(N, C, *spatial)``.
            first_seed: of the first image; the others have the following ones.

        Raises:
            ValueError: for a network without heads.
        """
        source = unwrap(network)
        images = torch.as_tensor(images.as_tensor() if hasattr(images, "as_tensor") else images)
        seeds = [(first_seed + k) % 2**63 for k in range(len(images))]
        with _running_stats_kept(source):
            parts = (
                reconstruction_loss(source, images),
                denoising_loss(source, images, seeds, deviation=self.deviation),
                super_resolution_loss(source, images),
                rotation_loss(source, images, seeds),
            )
        return torch.stack(parts).sum()


@contextmanager
def _running_stats_kept(network: nn.Module) -> Iterator[None]:
    """Keep noisy, small and turned images out of the running statistics, which later stand for the source."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    momenta = [m.momentum for m in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
