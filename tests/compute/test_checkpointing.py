"""Gradient checkpointing saves memory and changes nothing else."""

import torch
from torch import nn

from monai_tta.compute.checkpointing import checkpoint_blocks
from tests.compute.saved_bytes import residual_network, saved_while_adapting
from tests.small import TENT, image, run


def test_recomputing_saves_less_and_learns_the_same():
    recomputed, usual = (saved_while_adapting(TENT, image(size=16), recompute=r) for r in (True, False))
    assert recomputed < 0.6 * usual
    answers = [run(residual_network(), x=image(size=16), recompute=r)[0] for r in (True, False)]
    torch.testing.assert_close(*answers)


def test_blocks_are_the_smallest_modules_with_both_kinds_of_layers():
    assert checkpoint_blocks(residual_network()) == 4  # three residual blocks, and the last layers with their norm
    assert checkpoint_blocks(nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())) == 0
