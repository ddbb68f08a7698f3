"""A normalisation layer at several places in a network, and one behind a global pooling."""

import pytest
import torch
from torch import nn

from monai_tta import AdaptiveInferer, GraTa, Statistics, StatisticsTask, Tent
from monai_tta.core.night import Night
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.shadow import Shadow
from tests.small import FAST, image, run, same, state


def trained(net, dims):
    """The network after some passes in training mode, which fill its running statistics."""
    net.train()
    with torch.no_grad():
        for number in range(8):
            net(image(dims, size=8, seed=number, n=2) * 0.5)
    return net.eval()


class Shared(nn.Module):
    """One block that is used ``uses`` times, as in a recurrent network, each time on other features."""

    def __init__(self, dims, uses=3):
        super().__init__()
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        self.uses = uses
        self.first, self.block, self.norm, self.last = conv(1, 4, 1), conv(4, 4, 3, padding=1), norm(4), conv(4, 3, 1)

    def forward(self, x):
        x = self.first(x)
        for number in range(self.uses):
            x = torch.relu(self.norm(self.block(x) * (number + 1) + 3 * number))
        return self.last(x)


class Pooled(nn.Module):
    """Two branches, one of them behind a global pooling, as in ASPP."""

    def __init__(self, dims):
        super().__init__()
        conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
        pool = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dims - 2]
        self.stem = nn.Sequential(conv(1, 4, 3, padding=1), norm(4), nn.ReLU())
        self.whole = nn.Sequential(pool(1), conv(4, 4, 1), norm(4), nn.ReLU())
        self.last = conv(8, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.last(torch.cat([x, self.whole(x).expand_as(x)], 1))


def made(kind, dims):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained(kind(dims), dims)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("blend", [0.4, 1.0])
def test_each_use_of_a_shared_layer_has_statistics_of_its_own(dims, blend):
    net, x = made(Shared, dims), image(dims)
    answers = [
        run(net, Statistics(statistics=which, blend=blend), x, roi_size=-1, head="softmax")[0] for which in ("volume", "window")
    ]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)  # one window is the whole image: both statistics are the same


def test_windows_get_the_statistics_of_their_place_in_the_network():
    net, x = made(Shared, 3), image(size=16)
    shadow = Shadow(net, "softmax", None, "volume")
    shadow.pool_statistics(x)
    assert len(shadow.module.norm.pooled) == 3
    with torch.no_grad():
        expected = net.first(x)
        for number in range(3):
            features = net.block(expected) * (number + 1) + 3 * number
            normalised = nn.functional.batch_norm(features, None, None, net.norm.weight, net.norm.bias, training=True)
            expected = torch.relu(normalised)
        torch.testing.assert_close(shadow(x), net.last(expected), rtol=1e-4, atol=1e-4)
        half = shadow(x[..., :8])  # a pass of another size is another pass of the same three uses
    assert half.shape[-1] == 8 and len(shadow.module.norm.pooled) == 3


@pytest.mark.parametrize("method", [Tent(optimizer=FAST, statistics="volume"), GraTa(optimizer=FAST, statistics="volume")])
def test_methods_learn_on_shared_layers(method):
    net = made(Shared, 3)
    before = state(net)
    _, case = run(net, method, image(size=16))
    assert case.reason is None and case.weight_distance > 0 and same(before, state(net))


def test_checkpointing_does_not_tell_uses_apart_and_says_so():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv3d(1, 4, 1), nn.Conv3d(4, 3, 1)
            self.inner = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4))

        def forward(self, x):
            x = self.first(x)
            for _ in range(2):
                x = self.inner(x)
            return self.last(x)

    blocks = Blocks().eval()
    with pytest.warns(UserWarning, match="used at 2 places"):
        answer, case = run(blocks, Tent(optimizer=FAST, statistics="volume"), image(), recompute=True)
    torch.testing.assert_close(answer, run(blocks, Statistics(statistics="source"), image())[0])
    _, case = run(blocks, Tent(optimizer=FAST, statistics="window"), image(), recompute=True)
    assert case.reason is None and case.weight_distance > 0


def test_a_pass_of_more_uses_than_were_pooled_is_not_adapted():
    net = made(Shared, 3)
    shadow = Shadow(net, "softmax", None, "volume")
    shadow.pool_statistics(image())
    shadow.module.uses = 4
    with pytest.raises(ValueError, match="used more often in this pass"):
        shadow(image())


def test_the_loss_of_statistics_compares_each_use_with_its_own():
    net, x = made(Shared, 3), image()
    shadow = Shadow(net, "softmax", None, "volume")
    shadow.pool_statistics(x)
    assert float(StatisticsTask()(shadow, x)) < 1e-2  # the pooled statistics of one window are the window's
    assert len(shadow.distances(x)) == 3


def test_a_night_pools_over_all_uses_of_a_layer():
    net, x = made(Shared, 3), image()
    changed = Night(epochs=1, statistics_share=1.0).learn(net, [x], "softmax")
    shadow = Shadow(net, "softmax", None, "volume")
    shadow.pool_statistics(x)
    means = torch.stack([mean for mean, _ in shadow.module.norm.pooled])
    torch.testing.assert_close(changed["norm.running_mean"], means.mean(0), rtol=1e-4, atol=1e-4)


METHODS = [
    Statistics(blend=0.7),
    Statistics(statistics="volume"),
    Tent(optimizer=FAST),
    Tent(optimizer=FAST, statistics="volume"),
    GraTa(optimizer=FAST),
]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_layer_behind_a_global_pooling_keeps_the_source_and_the_rest_adapts(dims, method):
    net, x = made(Pooled, dims), image(dims)
    answer, case = run(net, method, x)
    assert case.reason is None and case.n_kept_source == 1 and answer.isfinite().all()
    source = AdaptiveInferer(8, 2, 0.5, method=Statistics(statistics="source"))
    with torch.no_grad():
        assert not torch.equal(answer, source(x, net))
    assert source.cases[-1].n_kept_source == 0


def test_the_other_layers_of_such_a_network_have_the_windows_own_statistics():
    net, x = made(Pooled, 3), image(size=8)
    answer, _ = run(net, Statistics(blend=1.0), x, roi_size=-1)
    with torch.no_grad():
        stem = torch.relu(nn.functional.batch_norm(net.stem[0](x), None, None, net.stem[1].weight, net.stem[1].bias, True))
        torch.testing.assert_close(answer, net.last(torch.cat([stem, net.whole(stem).expand_as(stem)], 1)), rtol=1e-4, atol=1e-4)


def test_figures_of_statistics_leave_such_a_layer_out():
    net, x = made(Pooled, 3), image()
    shadow = Shadow(net, "softmax", None, "window", 0.5)
    assert len(shadow.distances(x)) == 1
    assert torch.isfinite(StatisticsTask()(shadow, x))
    assert sum(isinstance(m, AdaptiveNorm) for m in shadow.module.modules()) == 2
