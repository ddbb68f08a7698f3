"""Networks and calls that are out of the ordinary: each is adapted all the same, or answered plainly for a stated reason."""

from collections import namedtuple

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm
from torch.utils.checkpoint import checkpoint

from monai_tta import AdaptiveInferer, Consistency, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.heads import attach_heads
from monai_tta.network import Stand
from monai_tta.normalization import PresentNorm
from monai_tta.selection import Everything, LastBiases
from monai_tta.shadow import Shadow
from monai_tta.updates import Adam
from monai_tta.views import Views

FAST = Adam(rate=0.05)
TENT = Tent(optimizer=FAST)


def small(norm=lambda: nn.BatchNorm3d(4)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv3d(1, 4, 3, padding=1), norm(), nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1), norm(), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv3d(4, 3, 1)).eval()


def image(n=1, size=12, seed=1):
    return torch.randn(n, 1, size, size, size, generator=torch.Generator().manual_seed(seed)) * 2 + 1


class Around(nn.Module):
    """A network that does something to the input or output of a small one."""

    def __init__(self, forward):
        super().__init__()
        self.net, self.way = small(), forward

    def forward(self, x, *args, **kwargs):
        return type(self).work(self, x, *args, **kwargs)


def around(work):
    return type("Odd", (Around,), {"work": staticmethod(work)})(None).eval()


def run(net, method=TENT, x=None, **options):
    options = {"roi_size": 8, "sw_batch_size": 2, "overlap": 0.5} | options
    inferer = AdaptiveInferer(method=method, **options)
    with torch.no_grad():
        answer = inferer(image() if x is None else x, net)
    return answer, inferer.cases[-1]


class Activated(nn.BatchNorm3d):
    """A BatchNorm with an activation behind it, as timm has them."""

    def forward(self, x):
        return torch.relu(super().forward(x))


class Conditional(nn.BatchNorm3d):
    def forward(self, x, scale):
        return super().forward(x) * scale


def test_a_norm_layer_with_a_forward_of_its_own_keeps_it():
    net, x = small(lambda: Activated(4)), image()
    answer, case = run(net, Source(), x)
    torch.testing.assert_close(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))
    own = Shadow(net, "softmax", None, "window").module[1]
    features = torch.randn(2, 4, 6, 6, 6, generator=torch.Generator().manual_seed(3)) + 2
    with torch.no_grad():
        expected = torch.cat([torch.relu(nn.functional.batch_norm(f[None], None, None, training=True)) for f in features])
    torch.testing.assert_close(own(features), expected)


def test_a_norm_layer_with_an_argument_of_its_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv3d(1, 3, 1), Conditional(3)

        def forward(self, x):
            return self.norm(self.conv(x), 2.0)

    _, case = run(Net().eval())
    assert case.reason is None and case.travelled > 0


def test_a_norm_layer_used_twice_is_one_layer():
    net = small()
    net[4] = net[1]
    shadow = Shadow(net, "softmax", Everything())
    assert isinstance(shadow.module[1], PresentNorm) and shadow.module[4] is shadow.module[1]


def test_tied_weights_stay_tied():
    net = small()
    net[4].weight = net[1].weight
    shadow = Shadow(net, "softmax", Everything())
    assert shadow.module[4].weight is shadow.module[1].weight and shadow.module[1].weight.requires_grad
    assert net[1].weight is not shadow.module[1].weight


WAYS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": lambda m: parametrizations.spectral_norm(m) if m.weight.ndim > 1 else m,
    "spectral_norm by hook": lambda m: spectral_norm(m) if m.weight.ndim > 1 else m,
    "pruning": lambda m: prune.l1_unstructured(m, "weight", 0.3),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("way", WAYS)
def test_reparametrised_layers(way, place):
    net, x = small(), image()
    WAYS[way](net[place])
    plain = SlidingWindowInferer(8, 2, 0.5)(x, net).detach()
    torch.testing.assert_close(run(net, Source(), x)[0], plain)
    answer, case = run(net, TENT, x)
    assert case.reason is None and case.travelled > 0 and not torch.equal(answer, plain)
    torch.testing.assert_close(SlidingWindowInferer(8, 2, 0.5)(x, net).detach(), plain)


def test_hooks_and_attributes_of_norm_layers_stay():
    seen = {}

    class Tap(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small()
            self.net[4].register_forward_hook(self.keep)

        def keep(self, module, given, answer):
            seen[id(self)] = answer

        def forward(self, x):
            answer = self.net(x)
            return answer + seen.pop(id(self)).mean() * self.net[1].momentum

    _, case = run(Tap().eval())
    assert case.reason is None and case.travelled > 0


def no_gradient():
    net = small()
    own = net.forward
    net.forward = lambda x: own(x)
    return net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", [no_gradient(), around(lambda self, x: checkpoint(self.net, x, use_reentrant=True))])
@pytest.mark.parametrize("method", [TENT, GraTa(optimizer=FAST), Consistency(optimizer=FAST)])
def test_where_no_gradient_arrives_the_record_says_so(net, method):
    answer, case = run(net, method)
    assert "no gradient reaches what may move" in case.reason
    assert torch.equal(answer, run(net, Source())[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "method", [Source(), Statistics(), Statistics(statistics="volume"), Tent(), Consistency(), GraTa(), ViewAverage()], ids=repr
)
@pytest.mark.filterwarnings("ignore:answered without adaptation")
def test_networks_of_other_precision(dtype, method):
    x, net = image().to(dtype), small().to(dtype)
    answer, case = run(net, method, x)
    assert answer.dtype == dtype and answer.isfinite().all()
    # float16 has no room for the squares of small gradients in Adam: then the plain answer, for that reason
    assert case.reason is None or (dtype == torch.float16 and case.reason == "the adapted answer is not finite")


def test_confident_answers_of_half_precision_stay_finite():
    sure = around(lambda self, x: self.net(x)[:, :1] * 100).to(torch.bfloat16)
    answer, case = run(sure, ViewAverage(), image().bfloat16())
    assert case.reason is None and answer.isfinite().all()


Pair = namedtuple("Pair", "logits features")
ANSWERS = {
    "named tuple": lambda y: Pair(y, y[:, :1]),
    "with None": lambda y: (y, None),
    "nested": lambda y: [y, [y, {"deep": y}]],
    "with a scalar": lambda y: {"pred": y, "loss": y.mean()},
}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_come_back_in_their_container(kind, n):
    net = around(lambda self, x: ANSWERS[kind](self.net(x)))
    x = image(n)
    with torch.no_grad():
        plain = net(x)
    same = AdaptiveInferer(method=Source(), inferer=SimpleInferer())(x, net)
    assert type(same) is type(plain) and repr(torch.utils._pytree.tree_structure(same)) == repr(
        torch.utils._pytree.tree_structure(plain)
    )
    torch.testing.assert_close(same, plain)
    inferer = AdaptiveInferer(method=TENT, inferer=SimpleInferer())
    assert type(inferer(x, net)) is type(plain) and inferer.cases[-1].travelled > 0


def test_an_argument_for_each_image_is_split_like_the_images():
    net = around(lambda self, x, scale: self.net(x) * scale.view(-1, 1, 1, 1, 1))
    x, scale = image(2), torch.tensor([1.0, 3.0])
    found = AdaptiveInferer(method=Source(), inferer=SimpleInferer())(x, net, scale)
    torch.testing.assert_close(found, net(x, scale).detach())


def beside(self, x, places=None, condition=None):
    assert places is None or len(places) == len(x)
    return self.net(x if condition is None else x + condition)


@pytest.mark.parametrize("given", ["coordinates", "condition"])
def test_what_belongs_to_one_window_is_not_shown_with_another(given):
    net, x = around(beside), image()
    extra = {"condition": image(seed=5)} if given == "condition" else {}
    options = {"roi_size": 8, "overlap": 0.5, "with_coord": given == "coordinates", "method": TENT}
    one = AdaptiveInferer(sw_batch_size=1, learn="window", **options)
    one(x, net, **extra)
    assert one.cases[-1].reason is None and one.cases[-1].travelled > 0
    for run in (AdaptiveInferer(sw_batch_size=2, learn="window", **options), AdaptiveInferer(**options)):
        with pytest.warns(UserWarning, match="of each window's own"):
            run(x, net, **extra)


def test_an_error_of_the_network_itself_stays_what_it_is():
    def fail(self, x):
        raise RuntimeError("CUDA out of memory")

    odd = around(fail)
    odd.net[0] = nn.Conv3d(32, 4, 1)  # its channels are others than the image's, which has nothing to do with it
    with pytest.raises(RuntimeError, match="out of memory"):
        AdaptiveInferer(8, method=TENT)(image(), odd)


def test_a_network_that_makes_a_volume_of_an_image():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.last = small(), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.last(self.net(x[:, :, None])[:, :, 0])

    _, case = run(Stack().eval(), x=image()[..., 0])
    assert case.reason is None and case.travelled > 0


def test_meta_data_only_where_the_plain_answer_has_them():
    strip = around(lambda self, x: self.net(x).as_tensor() if isinstance(x, MetaTensor) else self.net(x))
    for net in (strip, small()):
        plain = SimpleInferer()(MetaTensor(image()), net)
        ours = AdaptiveInferer(method=TENT, inferer=SimpleInferer())(MetaTensor(image()), net)
        assert type(plain) is type(ours)


def test_windows_of_several_sizes_are_refused_for_teaching():
    class TwoScales(SlidingWindowInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            return network(inputs) + nn.functional.interpolate(network(inputs[..., ::2, ::2, ::2]), size=inputs.shape[2:])

    with pytest.warns(UserWarning, match="windows of several sizes"):
        run(small(), inferer=TwoScales(8))
    _, case = run(small(), inferer=TwoScales(8), learn="window")
    assert case.reason is None and case.travelled > 0


def test_biases_of_auxiliary_heads_are_not_the_last_biases():
    net = attach_heads(around(lambda self, x: self.net(x)), "net.3", features=4, in_channels=1, spatial_dims=3)
    names = LastBiases()(net)
    assert names and not any("auxiliary" in name for name in names)


class TestStream:
    def test_cases_are_numbered_past_the_records_that_are_kept(self):
        inferer, net = AdaptiveInferer(8, method=Source()), nn.Conv3d(1, 2, 1).eval()
        for _ in range(1002):
            inferer(torch.ones(1, 1, 2, 2, 2), net)
        assert [case.number for case in list(inferer.cases)[-2:]] == [1000, 1001]

    def test_an_image_that_teaches_nothing_leaves_the_stream_as_it_was(self):
        ways = []
        for images in ([image(), image(seed=2)], [image(), torch.ones_like(image()), image(seed=2)]):
            inferer, net = AdaptiveInferer(8, method=Tent(optimizer=FAST), reset="never"), small()
            for x in images:
                with torch.no_grad():
                    inferer(x, net)
            ways.append(inferer.cases[-1].travelled)
        assert ways[0] == ways[1]

    @pytest.mark.parametrize("write", [lambda p: p.data.mul_(-2), lambda p: p.mul_(-2)])
    def test_new_weights_begin_a_new_stream(self, write):
        net, inferer = small(), AdaptiveInferer(8, method=TENT, reset="never")
        with torch.no_grad():
            inferer(image(), net)
            for p in net.parameters():
                write(p)
            again = inferer(image(), net)
            fresh = AdaptiveInferer(8, method=TENT, reset="never", seed=1)(image(), net)
        assert torch.equal(again, fresh)


def test_a_stand_can_be_copied():
    import copy

    assert copy.copy(Stand(small(), lambda: 0))._network is not None
    copy.deepcopy(Stand(small(), None))


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
def test_choices_that_mean_nothing_are_refused(make):
    with pytest.raises(ValueError, match="found|twice"):
        make()
