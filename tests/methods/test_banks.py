"""DLTTA and SicTTA: what their banks hold, and what they do without one."""

import pytest
import torch

from monai_tta import DLTTA, SGD, SicTTA, Statistics, Tent
from monai_tta.core.deep_features import logits_and_deepest
from monai_tta.core.shadow import Shadow
from monai_tta.inference.streams import streams
from tests.small import FAST, image, inferer, network


def seen(method, count=3):
    """A continual run over some images, its last answer, and the shadow."""
    net, run = network(), inferer(method, reset="never")
    answers = [run(image(seed=seed), net) for seed in range(1, count + 1)]
    return run, answers[-1], streams[run].shadows[net][1]


@pytest.mark.parametrize("method", [DLTTA(bank_size=2), SicTTA(bank_size=2)])
def test_the_bank_is_bounded_and_holds_no_image(method):
    _, _, shadow = seen(method, 4)
    assert len(shadow.bank) == 2

    def numbers(part):
        if isinstance(part, torch.Tensor):
            return part.numel()
        return sum(map(numbers, part)) if part else 0

    assert all(0 < numbers(entry) < 50 for entry in shadow.bank)


def test_without_a_bank_dltta_is_tent_and_sictta_each_cases_own_statistics():
    _, answer, shadow = seen(DLTTA(optimizer=FAST, bank_size=0))
    assert torch.equal(answer, seen(Tent(optimizer=FAST))[1]) and not shadow.bank
    _, answer, shadow = seen(SicTTA(bank_size=0))
    assert torch.equal(answer, seen(Statistics(blend=1.0, statistics="volume"))[1]) and not shadow.bank


def test_without_neighbours_sictta_uses_the_cases_own_statistics():
    assert torch.equal(seen(SicTTA(neighbors=0))[1], seen(SicTTA(bank_size=0))[1])
    assert not torch.equal(seen(SicTTA(neighbors=1))[1], seen(SicTTA(bank_size=0))[1])


def test_a_case_that_is_answered_as_its_twin_moves_less_than_one_that_is_not():
    net, rates = network(), []
    for second in (1, 2):
        run = inferer(DLTTA(optimizer=SGD(lr=0.1, momentum=0.0), neighbors=1), reset="never")
        for seed in (1, second):
            run(image(seed=seed) * (3 if seed == 2 else 1), net)
        rates.append(run.cases[-1].steps[0].lr)
    assert 0 < rates[0] < rates[1]


@pytest.mark.parametrize("choices", [{"bank_size": -1}, {"neighbors": -1}])
def test_choices_out_of_range_are_refused(choices):
    for kind in (DLTTA, SicTTA):
        with pytest.raises(ValueError, match="0 or more"):
            kind(**choices)


def test_the_deepest_features_are_those_of_the_bottleneck():
    from monai.networks.nets import UNet

    net = UNet(3, 1, 2, (4, 8, 16), (2, 2)).eval()
    windows = image(size=16, n=2)
    logits, features = logits_and_deepest(Shadow(net, "softmax", None), windows)
    assert features.shape == (2, 16, 4, 4, 4) and torch.equal(logits, Shadow(net, "softmax", None)(windows))
