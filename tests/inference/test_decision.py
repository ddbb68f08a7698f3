"""What the decision about an answer costs."""

import torch
from torch import nn

from monai_tta import AdaptiveInferer, Tent
from monai_tta.compute.count_passes import count_passes
from monai_tta.guards import Collapse


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


def forwards_of_cases(reset, collapse):
    """How many windows the network and its copies answer for each of three images."""
    source = network()
    inferer = AdaptiveInferer(roi_size=(16, 16), overlap=0, method=Tent(), reset=reset, collapse=collapse)
    counts = []
    for seed in range(3):
        image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad(), count_passes(source) as passes:
            inferer(image, source)
        assert inferer.cases[-1].adapted
        counts.append(passes.forwards)
    return counts


def test_only_what_was_carried_over_is_compared_with_a_fresh_shadow():
    plain = forwards_of_cases("volume", None)
    assert forwards_of_cases("volume", Collapse()) == plain  # there is no memory, so there is nothing to compare
    stream = forwards_of_cases("never", Collapse())
    assert stream[0] == plain[0] and stream[1] > plain[1] and stream[2] > plain[2]
