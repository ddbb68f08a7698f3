"""What may move in a network without scale and shift: selections are tried in the documented order."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_tta import Tent
from monai_tta.core.optimizers import SGD
from monai_tta.core.selection import Auto
from tests.small import DESCENTS, NEEDS_RUNNING_STATS, NORMS, ROWS, changed, image, inferer, network, same, state

WITHOUT_AFFINE = {
    "AttachedAffine()": lambda: nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 1)),
    "LastBiases()": lambda: nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1)),
}


@pytest.mark.parametrize("row", [row for row in DESCENTS if row not in NEEDS_RUNNING_STATS])
@pytest.mark.parametrize("selected", WITHOUT_AFFINE)
def test_networks_without_scale_and_shift_start_at_the_source_and_move(row, selected):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = WITHOUT_AFFINE[selected]().eval()
    before = state(net)
    x = image()
    unmoved = inferer(changed(ROWS[row], optimizer=SGD(lr=0.0, momentum=0)))(x, net)
    torch.testing.assert_close(unmoved, SlidingWindowInferer(8, 2, 0.5)(x, net).detach())
    run = inferer(ROWS[row], budget=4)
    answer = run(x, net)
    case = run.cases[-1]
    assert case.selected == selected and case.weight_distance > 0 and case.reason is None and same(before, state(net))
    assert not torch.allclose(answer, unmoved, atol=1e-4)


def test_auto_prefers_scale_and_shift_of_normalisation_layers():
    for kind in NORMS:
        run = inferer(Tent(select=Auto()))
        run(image(), network(kind))
        assert run.cases[-1].selected == "NormAffine()"
