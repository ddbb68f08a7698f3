"""What may move where a network has no scale and shift: the documented order, from the source's own answer on."""

import pytest
import torch
from torch import nn

from monai_tta import AdaptiveInferer, Tent
from monai_tta.core.optimizers import SGD
from monai_tta.core.selection import Auto
from tests.small import LEARNERS, NORMS, ROWS, image, inferer, network, same, state

BARE = {
    "AttachedAffine()": lambda: nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 1)),
    "LastBiases()": lambda: nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1)),
}


@pytest.mark.parametrize("row", LEARNERS)
@pytest.mark.parametrize("way", BARE)
def test_networks_without_scale_and_shift_start_at_the_source_and_move(row, way):
    import dataclasses

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = BARE[way]().eval()
    before, x = state(net), image()
    still = dataclasses.replace(ROWS[row], optimizer=SGD(lr=0.0, momentum=0))
    torch.testing.assert_close(inferer(still, precision="exact")(x, net), AdaptiveInferer.__mro__[1](8, 2, 0.5)(x, net).detach())
    run = inferer(ROWS[row], precision="exact", budget=4)
    answer = run(x, net)
    case = run.cases[-1]
    assert case.selected == way and case.weight_distance > 0 and case.reason is None and same(before, state(net))
    assert not torch.allclose(answer, inferer(still, precision="exact")(x, net), atol=1e-4)


def test_auto_prefers_what_the_papers_move():
    for kind in NORMS:
        run = inferer(Tent(select=Auto()))
        run(image(), network(kind))
        assert run.cases[-1].selected == "NormAffine()"
