"""`AdaptiveSlidingWindows` answers as an `AdaptiveInferer` does, with the arguments of MONAI's function."""

import pytest
import torch
from monai.inferers import sliding_window_inference

from monai_tta import AdaptiveInferer, GraTa, Source
from monai_tta.apps.sliding_windows import AdaptiveSlidingWindows
from tests.small import CON, FAST, image, network

METHOD = GraTa(pseudo=CON, optimizer=FAST)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_answer_is_that_of_an_adaptive_inferer(head):
    x, net = image(size=12, n=2), network(head=head)
    ours = AdaptiveSlidingWindows(head, method=METHOD)
    inferer = AdaptiveInferer(8, 2, 0.5, "gaussian", method=METHOD, head=head)
    torch.testing.assert_close(ours(x, 8, 2, net, 0.5, "gaussian"), inferer(x, net))
    assert [(case.adapted, case.head) for case in ours.inferer.cases] == [(True, head)] * 2


def test_all_arguments_reach_monais_function():
    x, net = image(size=12), network()
    ours = AdaptiveSlidingWindows("softmax", method=Source())
    weights = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    for given in (
        {"roi_weight_map": weights, "overlap": 0.5},
        {"process_fn": lambda logits, window, weight: (2 * logits, weight)},
    ):
        torch.testing.assert_close(ours(x, 8, 2, net, **given), sliding_window_inference(x, 8, 2, net, **given))
