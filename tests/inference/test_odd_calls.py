"""Unusual calls and answers: containers, arguments of single images or windows, little memory, streams, bad choices."""

from collections import namedtuple

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer, Source, Tent, ViewAverage
from monai_tta.core.auxiliary_heads import attach_heads
from monai_tta.core.selection import LastBiases
from monai_tta.core.views import Views
from tests.small import FAST, TENT, around, image, network, run

Pair = namedtuple("Pair", "logits features")
ANSWERS = {
    "named tuple": lambda y: Pair(y, y[:, :1]),
    "with None": lambda y: (y, None),
    "nested": lambda y: [y, [y, {"deep": y}]],
    "with a scalar": lambda y: {"pred": y, "loss": y.mean()},
}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_keeps_its_container(kind, n):
    net = around(lambda self, x: ANSWERS[kind](self.net(x)))
    x = image(n=n)
    with torch.no_grad():
        unadapted = net(x)
    same = AdaptiveInferer(method=Source(), inferer=SimpleInferer())(x, net)
    assert type(same) is type(unadapted) and repr(torch.utils._pytree.tree_structure(same)) == repr(
        torch.utils._pytree.tree_structure(unadapted)
    )
    torch.testing.assert_close(same, unadapted)
    inferer = AdaptiveInferer(method=TENT, inferer=SimpleInferer())
    assert type(inferer(x, net)) is type(unadapted) and inferer.cases[-1].weight_distance > 0


def test_an_argument_for_each_image_is_split_like_the_images():
    net = around(lambda self, x, scale: self.net(x) * scale.view(-1, 1, 1, 1, 1))
    x, scale = image(n=2), torch.tensor([1.0, 3.0])
    found = AdaptiveInferer(method=Source(), inferer=SimpleInferer())(x, net, scale)
    torch.testing.assert_close(found, net(x, scale).detach())


def at_least(self, x, places=None, condition=None):
    assert places is None or len(places) == len(x)
    return self.net(x if condition is None else x + condition)


@pytest.mark.parametrize("given", ["coordinates", "condition"])
def test_an_argument_of_one_window_is_not_passed_with_another(given):
    net, x = around(at_least), image()
    extra = {"condition": image(seed=5)} if given == "condition" else {}
    options = {"roi_size": 8, "overlap": 0.5, "with_coord": given == "coordinates", "method": TENT}
    one = AdaptiveInferer(sw_batch_size=1, learn="window", **options)
    one(x, net, **extra)
    assert one.cases[-1].reason is None and one.cases[-1].weight_distance > 0
    for several in (AdaptiveInferer(sw_batch_size=2, learn="window", **options), AdaptiveInferer(**options)):
        with pytest.warns(UserWarning, match="of each window's own"):
            several(x, net, **extra)


def test_an_error_of_the_network_itself_is_raised_unchanged():
    def fail(self, x):
        raise RuntimeError("CUDA out of memory")

    odd = around(fail)
    odd.net[0] = nn.Conv3d(32, 4, 1)  # its number of channels differs from the image's, but that is not the error
    with pytest.raises(RuntimeError, match="out of memory"):
        AdaptiveInferer(8, method=TENT)(image(), odd)


def test_a_2d_network_with_3d_layers_adapts():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.last = network(), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.last(self.net(x[:, :, None])[:, :, 0])

    _, case = run(Stack().eval(), x=image()[..., 0])
    assert case.reason is None and case.weight_distance > 0


def test_meta_data_only_where_the_unadapted_answer_has_them():
    strip = around(lambda self, x: self.net(x).as_tensor() if isinstance(x, MetaTensor) else self.net(x))
    for net in (strip, network()):
        unadapted = SimpleInferer()(MetaTensor(image()), net)
        ours = AdaptiveInferer(method=TENT, inferer=SimpleInferer())(MetaTensor(image()), net)
        assert type(unadapted) is type(ours)


def test_windows_of_several_sizes_are_not_adapted_on_at_once():
    class TwoScales(SlidingWindowInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            return network(inputs) + nn.functional.interpolate(network(inputs[..., ::2, ::2, ::2]), size=inputs.shape[2:])

    with pytest.warns(UserWarning, match="windows of several sizes"):
        run(network(), inferer=TwoScales(8), budget=2)
    _, case = run(network(), inferer=TwoScales(8), learn="window")
    assert case.reason is None and case.weight_distance > 0


def test_biases_of_auxiliary_heads_are_not_the_last_biases():
    net = attach_heads(around(lambda self, x: self.net(x)), "net.3", features=4, in_channels=1, spatial_dims=3)
    names = LastBiases()(net)
    assert names and not any("auxiliary" in name for name in names)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: no")])
@pytest.mark.parametrize("room", [0, 1, 2])
def test_batches_that_do_not_fit_in_memory_are_halved(error, room):
    """An allocator that refuses more than ``room`` windows at once, but only in the shadow."""

    def refuse(self, x):
        if self is not net and len(x) > room:
            raise error
        return self.net(x)

    net, x = around(refuse), image()
    options = {"sw_batch_size": 4, "method": ViewAverage()}
    answer, case = run(net, x=x, **options)
    expected, _ = run(around(lambda self, x: self.net(x)), x=x, **options)
    if room:
        assert case.reason is None
        torch.testing.assert_close(answer, expected)
    else:
        assert case.reason.startswith("adapting failed with") and torch.equal(answer, SlidingWindowInferer(8, 4, 0.5)(x, net))


class TestStream:
    def test_case_numbers_go_on_when_old_records_are_dropped(self):
        inferer, net = AdaptiveInferer(8, method=Source()), nn.Conv3d(1, 2, 1).eval()
        for _ in range(1002):
            inferer(torch.ones(1, 1, 2, 2, 2), net)
        assert [case.number for case in list(inferer.cases)[-2:]] == [1000, 1001]

    def test_an_image_without_a_usable_window_leaves_the_stream_as_it_was(self):
        ways = []
        for images in ([image(), image(seed=2)], [image(), torch.ones_like(image()), image(seed=2)]):
            inferer, net = AdaptiveInferer(8, method=Tent(optimizer=FAST), reset="never"), network()
            for x in images:
                with torch.no_grad():
                    inferer(x, net)
            ways.append(inferer.cases[-1].weight_distance)
        assert ways[0] == ways[1]

    def test_infinities_in_a_buffer_do_not_restart_the_stream(self):
        net, inferer = network(), AdaptiveInferer(8, method=TENT, reset="never")
        net.register_buffer("mask", torch.tensor([float("inf"), -float("inf")]))
        with torch.no_grad():
            inferer(image(), net), inferer(image(seed=2), net)
        assert inferer.cases[1].weight_distance > 1.2 * inferer.cases[0].weight_distance

    def test_a_shadow_that_failed_while_learning_is_dropped(self):
        class Failing(Tent):
            def loss(self, shadow, windows):
                if shadow.weight_distance > 0 and float(windows.mean()) > 50:
                    raise RuntimeError("failed in the middle")
                return super().loss(shadow, windows)

        method, net, far = Failing(optimizer=FAST, steps=2), network(), image(seed=3) + 100
        inferer = AdaptiveInferer(8, method=method, reset="never")
        with torch.no_grad(), pytest.warns(UserWarning, match="failed in the middle"):
            inferer(image(), net), inferer(far, net)
            again = inferer(image(seed=2), net)
            fresh = AdaptiveInferer(8, method=method, reset="never", seed=2)(image(seed=2), net)
        assert torch.equal(again, fresh)

    @pytest.mark.parametrize("write", [lambda p: p.data.mul_(-2), lambda p: p.mul_(-2)])
    def test_new_weights_start_a_new_stream(self, write):
        never = {"method": TENT, "reset": "never", "collapse": None}  # nothing else may restart the stream
        net, inferer = network(), AdaptiveInferer(8, **never)
        with torch.no_grad():
            inferer(image(), net)
            for p in net.parameters():
                write(p)
            again = inferer(image(), net)
            fresh = AdaptiveInferer(8, **never, seed=1)(image(), net)
        assert torch.equal(again, fresh)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdaptiveInferer(budget=2.5),
        lambda: AdaptiveInferer(seed=1.5),
        lambda: AdaptiveInferer(guard="strict"),
        lambda: Tent(steps=1.5),
        lambda: Views(mirrors="diagonal"),
        lambda: Views(axes=(0, 0)),
    ],
)
def test_meaningless_values_are_refused(make):
    with pytest.raises(ValueError, match="found|twice"):
        make()
