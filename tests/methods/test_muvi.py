"""MuVi: orientations in 3D, pseudo-labels of several classes, and what it cannot do."""

import pytest
import torch
from monai.networks.nets import UNet

from monai_tta import MuVi
from monai_tta.core.orientations import orientations_of
from tests.small import FAST, image, network, run


def test_three_orientations_show_each_axis_first_and_are_undone():
    x = torch.arange(2 * 27.0).reshape(1, 2, 3, 3, 3)
    seen = [one.apply(x) for one in orientations_of((3, 3, 3))]
    assert [int(one[0, 0, 1, 0, 0]) for one in seen] == [9, 3, 1]
    assert all(torch.equal(o.undo(y), x) for o, y in zip(orientations_of((3, 3, 3)), seen, strict=True))
    assert len(orientations_of((4, 4))) == 2


class Told(torch.nn.Module):
    """A network that answers with given logits, and knows from the window which orientation it sees."""

    def __init__(self, logits):
        super().__init__()
        self.given = torch.as_tensor(logits)  # for the first, second and third orientation: (3, K)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        axis = [int(x[0, 0, 1, 0, 0]), int(x[0, 0, 0, 1, 0]), int(x[0, 0, 0, 0, 1])].index(1)
        return self.scale * self.given[axis].view(1, -1, 1, 1, 1).expand(1, -1, *x.shape[2:])


def label(logits, **choices):
    """The pseudo-label of every voxel, where the three orientations answer these logits; window and axes are so marked."""
    x = torch.zeros(1, 1, 2, 2, 2)
    x[0, 0, 1, 0, 0] = 1  # the first axis, which is the last in the second orientation and the middle one in the third
    first, second, third = logits
    net = Told([first, third, second])
    method = MuVi(**choices)
    shadow = method.begin(net, "softmax")
    return method._pseudo_labels(shadow, x, orientations_of((2, 2, 2))).unique().tolist()


SURE_1, SURE_2, SURER_2, SURE_0 = [0.0, 9.0, 0.0], [0.0, 0.0, 8.0], [0.0, 0.0, 12.0], [20.0, 0.0, 0.0]
UNSURE_1 = [0.0, 0.6, 0.0]


@pytest.mark.parametrize(
    "logits, expected",
    [
        ((SURE_0, SURE_0, SURE_1), 1),  # sure foreground in any orientation is foreground
        ((SURE_1, SURE_2, SURE_0), 1),  # of two that are sure, the surer
        ((SURE_1, SURER_2, SURE_0), 2),
        ((UNSURE_1, UNSURE_1, UNSURE_1), 0),  # nobody is sure
        ((UNSURE_1, SURE_2, UNSURE_1), 2),
        ((SURE_0, SURE_0, SURE_0), 0),
    ],
)
def test_the_surest_foreground_of_any_orientation_is_the_label(logits, expected):
    assert label(logits) == [expected]


def test_turned_windows_must_be_surer():
    between = [0.0, 2.7, 0.0]  # entropy of 0.41 of the largest
    assert label((between, SURE_0, SURE_0)) == [1]
    assert label((SURE_0, between, SURE_0)) == [0]
    assert label((SURE_0, between, SURE_0), reliable_turned=0.577) == [1]


def test_windows_of_unequal_sides_and_networks_with_a_coarse_axis_are_answered_by_the_source():
    method = MuVi(optimizer=FAST)
    _, case = run(network(), method, image(), roi_size=(8, 8, 6))
    assert "8 x 8 x 6 voxels" in case.reason and "equal sides" in case.reason
    coarse = UNet(3, 1, 2, (4, 8), strides=[(1, 2, 2)]).eval()
    _, case = run(coarse, method, image(size=8), head="softmax")
    assert "sees some axes more coarsely" in case.reason
    with pytest.raises(ValueError, match="max_length is above 0"):
        MuVi(max_length=0)


def test_there_is_a_step_for_each_window():
    _, case = run(network(), MuVi(optimizer=FAST, steps=2), image(size=16))
    assert case.n_windows == 4 and len(case.steps) == 8
