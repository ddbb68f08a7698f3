"""Quick kernels give the answers and gradients of the usual ones, and stand back where they don't fit."""

import copy

import pytest
import torch
from torch import nn

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.compute.fast_kernels import MAX_WEIGHTS_TO_FLIP, FastConv3d, FastPReLU, use_fast_kernels
from monai_tta.compute.precision import native_half_dtype
from monai_tta.core import shadow as shadows
from monai_tta.core.normalization import with_statistics
from monai_tta.core.shadow import Shadow
from monai_tta.evaluation.costs import _operations
from tests.small import image, network

NATIVE = native_half_dtype(torch.device("cpu")) is not None


def convolution(ci, co, k=3, seed=0, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv3d(ci, co, k, **{"padding": 1, **more}).requires_grad_(False)


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(layer, x):
    """A layer's answer and the gradient of the sum of its square."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return y, torch.autograd.grad(y.square().sum(), x)[0]


def taken(layer, x):
    return type(layer(x.clone().requires_grad_()).grad_fn).__name__ == "_OneDNNConvolutionBackward"


class TestConvolution:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("k", "pads"), [(3, 1), (3, 0), (3, 2), (5, 1), (2, 1), ((1, 3, 2), (0, 2, 1))])
    @pytest.mark.parametrize(("n", "ci", "co"), [(1, 3, 3), (1, 4, 20), (2, 20, 3), (3, 1, 8), (1, 20, 1)])
    def test_answer_and_gradient_are_those_of_float64(self, n, ci, co, k, pads, bias):
        layer = convolution(ci, co, k, padding=pads, bias=bias)
        x = noise(n, ci, 5, 6, 7)
        y, slope = both(use_fast_kernels(copy.deepcopy(layer)), x)
        exact, exact_slope = both(copy.deepcopy(layer).double(), x.double())
        assert taken(use_fast_kernels(copy.deepcopy(layer)), x)
        torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(slope, exact_slope.float(), rtol=1e-5, atol=1e-4)

    def test_gradients_of_gradients(self):
        layer, x = convolution(2, 3), noise(1, 2, 4, 4, 4).double()

        def twice(layer, x):
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
            return torch.autograd.grad(slope.square().sum(), x)[0]

        usual = twice(copy.deepcopy(layer).double(), x)
        torch.testing.assert_close(twice(use_fast_kernels(layer), x.float()), usual.float(), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("more", "n"),
        [
            ({"stride": 2}, 1),
            ({"dilation": 2}, 1),
            ({"groups": 2}, 1),
            ({"padding": "same"}, 1),
            ({"padding_mode": "reflect"}, 1),
            ({"padding": 3}, 1),
            ({"k": 1, "padding": 0}, 1),
            ({"co": 16}, 2),
            ({"ci": 256, "co": 256}, 1),
        ],
    )
    def test_stands_back_where_it_does_not_fit(self, more, n):
        layer = convolution(**{"ci": 4, "co": 4, **more})
        assert layer.weight.numel() >= MAX_WEIGHTS_TO_FLIP or layer.in_channels == 4
        x = noise(n, layer.in_channels, 4, 4, 4)
        y, slope = both(layer, x)
        use_fast = use_fast_kernels(copy.deepcopy(layer))
        assert isinstance(use_fast, FastConv3d) and not taken(use_fast, x)
        again, same = both(use_fast, x)
        assert torch.equal(y, again) and torch.equal(slope, same)

    def test_stands_back_when_told_or_learning_or_without_onednn(self):
        layer, x = use_fast_kernels(convolution(3, 3)), noise(1, 3, 4, 4, 4)
        assert taken(layer, x)
        with torch.backends.mkldnn.flags(enabled=False):
            assert not taken(layer, x)
        assert not taken(copy.deepcopy(layer).double(), x.double())
        layer.use_fast = False
        assert not taken(layer, x)
        learning = use_fast_kernels(convolution(3, 3))
        learning.bias.requires_grad_()
        assert not taken(learning, x)
        learning.bias.requires_grad_(False)
        learning.weight.requires_grad_()
        assert torch.autograd.grad(learning(x).sum(), learning.weight)[0].abs().sum() > 0

    @pytest.mark.parametrize(
        ("x", "dtype"),
        [
            (noise(1, 4, 4, 4, 4), torch.float32),
            (noise(1, 3, 4, 4, 4), torch.bfloat16),
            (noise(1, 3, 4, 4, 2), torch.float32),
            (noise(1, 3, 0, 4, 4), torch.float32),
            (noise(3), torch.float32),
        ],
        ids=["channels", "precision", "too small", "empty", "no image"],
    )
    def test_what_does_not_fit_together_is_refused_in_torch_s_own_words(self, x, dtype):
        layer = convolution(3, 3, padding=0).to(dtype)
        with pytest.raises(RuntimeError) as usual:
            layer(x)
        with pytest.raises(RuntimeError) as ours:
            use_fast_kernels(layer)(x)
        assert str(ours.value) == str(usual.value)

    def test_one_image_without_a_batch_is_answered_as_usual(self):
        layer, x = convolution(3, 3), noise(3, 4, 4, 4)
        assert torch.equal(use_fast_kernels(copy.deepcopy(layer))(x), layer(x))

    @pytest.mark.skipif(not NATIVE, reason="no native bfloat16")
    def test_under_autocast_it_computes_in_bfloat16_as_the_usual_layer(self):
        layer, x = convolution(20, 3), noise(2, 20, 6, 6, 6)
        usual, slope = both(layer.double(), x.double())
        layer = use_fast_kernels(layer.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert taken(layer, x)
            y, ours = both(layer, x)
        assert y.dtype == torch.bfloat16 and ours.dtype == torch.float32
        torch.testing.assert_close(y.double(), usual, rtol=0.02, atol=0.02)
        torch.testing.assert_close(ours.double(), slope, rtol=0.05, atol=0.1)

    @pytest.mark.skipif(not NATIVE, reason="no native bfloat16")
    def test_autocast_to_float16_takes_the_usual_way(self):
        layer, x = use_fast_kernels(convolution(3, 3)), noise(1, 3, 4, 4, 4)
        with torch.autocast("cpu", dtype=torch.float16):
            assert not taken(layer, x)

    def test_a_profile_counts_its_operations(self):
        usual, x = convolution(3, 5), noise(1, 3, 6, 6, 6)
        use_fast = use_fast_kernels(copy.deepcopy(usual))
        assert taken(use_fast, x) and _operations(lambda: use_fast(x)) == _operations(lambda: usual(x)) > 0


class TestPReLU:
    @pytest.mark.parametrize(
        ("kind", "cast"),
        [(torch.float32, False), (torch.float64, False), (torch.bfloat16, False), (torch.float32, True), (torch.bfloat16, True)],
    )
    @pytest.mark.parametrize("slope", [0.2437, 0.0, -0.3, 1.7])
    def test_answer_and_gradient_are_the_same_to_the_last_bit(self, slope, kind, cast):
        x = noise(2, 3, 4, 5).to(kind)
        layer = nn.PReLU(init=slope).requires_grad_(False).to(torch.float32 if cast else kind)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            usual, ours = both(layer, x), both(use_fast_kernels(copy.deepcopy(layer)), x)
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(usual, ours, strict=True))

    def test_it_is_a_leaky_relu_only_where_it_may_be(self):
        x = noise(2, 3, 4, 5).requires_grad_()

        def kind(layer, x=x):
            return type(layer(x).grad_fn).__name__

        use_fast = use_fast_kernels(nn.PReLU().requires_grad_(False))
        assert isinstance(use_fast, FastPReLU) and kind(use_fast).startswith("Leaky")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert kind(use_fast, x.bfloat16()).startswith("Leaky") and not kind(use_fast).startswith("Leaky")
        use_fast.use_fast = False
        assert kind(use_fast).startswith("Prelu")
        assert kind(use_fast_kernels(nn.PReLU())).startswith("Prelu")
        assert kind(use_fast_kernels(nn.PReLU(3).requires_grad_(False))).startswith("Prelu")


class Odd(nn.Conv3d):
    """A convolution with a forward pass of its own."""

    def forward(self, x):
        return super().forward(x) + 1


def test_a_layer_with_a_forward_pass_of_its_own_is_left_alone():
    odd = Odd(2, 2, 3).requires_grad_(False)
    use_fast_kernels(odd)
    assert type(odd) is Odd


def three_layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.PReLU(), nn.Conv3d(6, 2, 3, padding=1)).eval()


def test_a_shadow_gets_them_and_the_source_keeps_its_own():
    source = three_layers()
    made = GraTa().begin(source, "softmax").module
    assert [isinstance(m, FastConv3d | FastPReLU) for m in made] == [True, False, True, True]
    assert [type(m) for m in source] == [nn.Conv3d, nn.BatchNorm3d, nn.PReLU, nn.Conv3d]


def test_an_adapted_answer_is_the_one_of_the_usual_kernels(monkeypatch):
    def answered():
        inferer = AdaptiveInferer((8, 8, 8), 1, method=GraTa(), head="softmax")
        answer = inferer(image(size=12), three_layers())
        assert inferer.cases[0].reason is None
        return answer

    ours = answered()
    monkeypatch.setattr(shadows, "use_fast_kernels", lambda module: module)
    usual = answered()
    assert not torch.equal(ours, usual)
    torch.testing.assert_close(ours, usual, rtol=0, atol=1e-4)


def test_what_is_hung_on_a_copy_does_not_reach_its_source():
    """Empty dictionaries of hooks are not copied one by one; each copy must have its own all the same."""
    source = network()
    one, other = (Shadow(source, "softmax", None).module for _ in range(2))
    layer = next(name for name, m in source.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    one.get_submodule(layer).register_forward_hook(lambda *a: None)
    one.register_buffer("odd", torch.zeros(1), persistent=False)
    for module in (source, other):
        assert not module.get_submodule(layer)._forward_hooks and not hasattr(module, "odd")
        assert not module._non_persistent_buffers_set


def test_quicken_and_present_go_together():
    module = use_fast_kernels(with_statistics(three_layers(), "window", 1.0))
    assert module(noise(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
