"""What happens after a guard refuses an adapted answer."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_tta.guards import Agreement, WeightDistance
from monai_tta.inference.streams import streams
from tests.small import LEARNERS, TENT, fitted, image, inferer, network


@pytest.mark.parametrize("row", LEARNERS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_refused_answer_is_replaced_bit_for_bit_and_its_shadow_is_not_kept(row, head, dims):
    net, x = network(dims=dims, head=head), image(dims)
    run = inferer(fitted(row, net, dims), head, guard=WeightDistance(1e-9), reset="never")
    with torch.no_grad(), pytest.warns(UserWarning, match="the weights moved by"):
        answer = run(x, net)
        assert torch.equal(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))
    assert "moved by" in run.cases[-1].reason and net not in streams[run].shadows


def test_a_warning_comes_once_for_each_kind_of_reason():
    net = network()
    run = inferer(TENT, guard=Agreement(1.0), budget=4)
    with pytest.warns(UserWarning) as caught:
        for seed in range(3):
            run(image(seed=seed), net)
    assert len([w for w in caught if "agree" in str(w.message)]) == 1
    assert len({case.reason for case in run.cases}) == 3
