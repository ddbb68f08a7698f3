"""Counts of passes against what methods say of themselves, and against hooks on a layer."""

import pytest
import torch
from torch import nn

from monai_tta import AdaptiveInferer, Consistency, GraTa, Source, Tent
from monai_tta.compute.count_passes import count_passes
from monai_tta.core.tasks import ConsistencyTask
from monai_tta.core.views import Views


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = network()

    def forward(self, x):
        return {"out": self.layers(x)}


def passes_of(method, size=16, source=None):
    source = source or Net().eval()
    image = torch.rand(1, 1, size, 16, generator=torch.Generator().manual_seed(1))
    inferer = AdaptiveInferer(roi_size=(16, 16), overlap=0, method=method, budget=1)
    with torch.no_grad(), count_passes(source) as passes:
        inferer(image, source)
    assert inferer.cases[-1].reason is None or isinstance(method, Source)
    return passes.forwards, passes.backwards


def test_the_source_answers_each_window_once():
    assert passes_of(Source()) == (1, 0)
    assert passes_of(Source(), size=64) == (4, 0)


def test_a_step_of_each_method_costs_what_its_docstring_says():
    """Of one window: a step, and the answer. What comes before, the first pass, is the same for all."""
    first = passes_of(Tent(steps=0))[0]
    assert passes_of(Tent()) == (first + 1, 1)
    assert passes_of(Tent(steps=3)) == (first + 3, 3)
    n_views = len(Views().of((16, 16)))
    task = ConsistencyTask(views=Views())
    assert passes_of(Consistency(objective=task)) == (first + 1 + n_views, 1)
    assert passes_of(GraTa(pseudo=task)) == (first + 2 + n_views, 2)


def test_a_batch_counts_its_windows_and_a_failure_nothing(recwarn):
    net = Net()
    with count_passes(net) as passes:
        net(torch.rand(5, 1, 8, 8))["out"].sum().backward()
        with pytest.raises(RuntimeError):
            net(torch.rand(5, 3, 8, 8))
        with torch.no_grad():
            net(torch.rand(2, 1, 8, 8))
    net(torch.rand(5, 1, 8, 8))  # after the block, nothing is counted
    assert (passes.forwards, passes.backwards) == (7, 5)
    assert not recwarn  # torch only warns where a hook fails after the network has


def test_copies_count_and_layers_of_the_same_class_inside_do_not():
    nested = nn.Sequential(network(), nn.Identity())  # of the class of its first layer
    with count_passes(nested) as passes:
        nested(torch.rand(3, 1, 8, 8))
    assert passes.forwards == 3
