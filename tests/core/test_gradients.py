"""Steps along a gradient at learning rates of the tensors' own."""

import pytest
import torch
from torch import nn

from monai_tta import SGD, Adam, AdamW
from monai_tta.core.gradients import step_along


@pytest.mark.parametrize("spec", [Adam(lr=0.1), AdamW(lr=0.1), SGD(lr=0.1)])
def test_a_scale_for_each_tensor_is_a_learning_rate_for_each(spec):
    tensors = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    alone = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    together = spec.build(tensors)
    each = [spec.build([tensor]) for tensor in alone]
    for number in range(3):
        gradient = [torch.tensor([1.0, -2.0]) * (number + 1), torch.tensor([0.3])]
        step_along(together, gradient, [0.5, 0.25])
        for optimizer, part, scale in zip(each, gradient, (0.5, 0.25), strict=True):
            step_along(optimizer, [part], scale)
    assert all(torch.equal(a, b) for a, b in zip(tensors, alone, strict=True))
    assert len(together.param_groups) == 1 and together.param_groups[0]["lr"] == 0.1
