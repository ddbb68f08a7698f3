"""Fast kernels give the answers and gradients of torch's own, and leave to torch what they cannot compute."""

import copy

import pytest
import torch
from torch import nn

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.compute.fast_kernels import MAX_WEIGHTS_TO_FLIP, FastConv3d, FastPReLU, use_fast_kernels
from monai_tta.compute.precision import native_half_dtype
from monai_tta.core import shadow
from monai_tta.core.normalization import with_statistics
from monai_tta.core.shadow import Shadow
from monai_tta.evaluation.costs import _operations
from tests.small import image, network

NATIVE = native_half_dtype(torch.device("cpu")) is not None


def convolution(in_channels, out_channels, kernel_size=3, seed=0, **more):
    """A frozen 3D convolution with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv3d(in_channels, out_channels, kernel_size, **{"padding": 1, **more}).requires_grad_(False)


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def answer_and_gradient(layer, x):
    """A layer's answer, and the input's gradient of the sum of its squares."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return y, torch.autograd.grad(y.square().sum(), x)[0]


def is_fast(layer, x):
    """Whether the layer computes this input by our kernel."""
    return type(layer(x.clone().requires_grad_()).grad_fn).__name__ == "_OneDNNConvolutionBackward"


class TestConvolution:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("kernel_size", "padding"), [(3, 1), (3, 0), (3, 2), (5, 1), (2, 1), ((1, 3, 2), (0, 2, 1))])
    @pytest.mark.parametrize(("n", "in_channels", "out_channels"), [(1, 3, 3), (1, 4, 20), (2, 20, 3), (3, 1, 8), (1, 20, 1)])
    def test_answer_and_gradient_are_those_of_float64(self, n, in_channels, out_channels, kernel_size, padding, bias):
        layer = convolution(in_channels, out_channels, kernel_size, padding=padding, bias=bias)
        x = noise(n, in_channels, 5, 6, 7)
        answer, gradient = answer_and_gradient(use_fast_kernels(copy.deepcopy(layer)), x)
        exact_answer, exact_gradient = answer_and_gradient(copy.deepcopy(layer).double(), x.double())
        assert is_fast(use_fast_kernels(copy.deepcopy(layer)), x)
        torch.testing.assert_close(answer, exact_answer.float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, exact_gradient.float(), rtol=1e-5, atol=1e-4)

    def test_gradients_of_gradients(self):
        layer, x = convolution(2, 3), noise(1, 2, 4, 4, 4).double()

        def second_gradient(layer, x):
            x = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
            return torch.autograd.grad(gradient.square().sum(), x)[0]

        exact = second_gradient(copy.deepcopy(layer).double(), x)
        torch.testing.assert_close(second_gradient(use_fast_kernels(layer), x.float()), exact.float(), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("more", "n"),
        [
            ({"stride": 2}, 1),
            ({"dilation": 2}, 1),
            ({"groups": 2}, 1),
            ({"padding": "same"}, 1),
            ({"padding_mode": "reflect"}, 1),
            ({"padding": 3}, 1),
            ({"kernel_size": 1, "padding": 0}, 1),
            ({"out_channels": 16}, 2),
            ({"in_channels": 256, "out_channels": 256}, 1),
        ],
    )
    def test_other_convolutions_are_left_to_torch(self, more, n):
        layer = convolution(**{"in_channels": 4, "out_channels": 4, **more})
        assert layer.weight.numel() >= MAX_WEIGHTS_TO_FLIP or layer.in_channels == 4
        x = noise(n, layer.in_channels, 4, 4, 4)
        torchs_answer, torchs_gradient = answer_and_gradient(layer, x)
        fast_layer = use_fast_kernels(copy.deepcopy(layer))
        assert isinstance(fast_layer, FastConv3d) and not is_fast(fast_layer, x)
        answer, gradient = answer_and_gradient(fast_layer, x)
        assert torch.equal(answer, torchs_answer) and torch.equal(gradient, torchs_gradient)

    def test_torchs_kernel_is_used_on_request_and_for_learning_layers_and_without_onednn(self):
        layer, x = use_fast_kernels(convolution(3, 3)), noise(1, 3, 4, 4, 4)
        assert is_fast(layer, x)
        with torch.backends.mkldnn.flags(enabled=False):
            assert not is_fast(layer, x)
        assert not is_fast(copy.deepcopy(layer).double(), x.double())
        layer.use_fast = False
        assert not is_fast(layer, x)
        learning = use_fast_kernels(convolution(3, 3))
        learning.bias.requires_grad_()
        assert not is_fast(learning, x)
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
    def test_wrong_inputs_are_refused_with_torchs_own_message(self, x, dtype):
        layer = convolution(3, 3, padding=0).to(dtype)
        with pytest.raises(RuntimeError) as torchs:
            layer(x)
        with pytest.raises(RuntimeError) as ours:
            use_fast_kernels(layer)(x)
        assert str(ours.value) == str(torchs.value)

    def test_an_image_without_a_batch_axis_is_left_to_torch(self):
        layer, x = convolution(3, 3), noise(3, 4, 4, 4)
        assert torch.equal(use_fast_kernels(copy.deepcopy(layer))(x), layer(x))

    @pytest.mark.skipif(not NATIVE, reason="no native bfloat16")
    def test_it_computes_in_bfloat16_under_autocast(self):
        layer, x = convolution(20, 3), noise(2, 20, 6, 6, 6)
        exact_answer, exact_gradient = answer_and_gradient(layer.double(), x.double())
        layer = use_fast_kernels(layer.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert is_fast(layer, x)
            answer, gradient = answer_and_gradient(layer, x)
        assert answer.dtype == torch.bfloat16 and gradient.dtype == torch.float32
        torch.testing.assert_close(answer.double(), exact_answer, rtol=0.02, atol=0.02)
        torch.testing.assert_close(gradient.double(), exact_gradient, rtol=0.05, atol=0.1)

    @pytest.mark.skipif(not NATIVE, reason="no native bfloat16")
    def test_autocast_to_float16_is_left_to_torch(self):
        layer, x = use_fast_kernels(convolution(3, 3)), noise(1, 3, 4, 4, 4)
        with torch.autocast("cpu", dtype=torch.float16):
            assert not is_fast(layer, x)

    def test_a_profile_counts_its_operations(self):
        layer, x = convolution(3, 5), noise(1, 3, 6, 6, 6)
        fast_layer = use_fast_kernels(copy.deepcopy(layer))
        assert is_fast(fast_layer, x) and _operations(lambda: fast_layer(x)) == _operations(lambda: layer(x)) > 0


class TestPReLU:
    @pytest.mark.parametrize(
        ("dtype", "autocast"),
        [(torch.float32, False), (torch.float64, False), (torch.bfloat16, False), (torch.float32, True), (torch.bfloat16, True)],
    )
    @pytest.mark.parametrize("slope", [0.2437, 0.0, -0.3, 1.7])
    def test_answer_and_gradient_are_the_same_to_the_last_bit(self, slope, dtype, autocast):
        x = noise(2, 3, 4, 5).to(dtype)
        layer = nn.PReLU(init=slope).requires_grad_(False).to(torch.float32 if autocast else dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            torchs = answer_and_gradient(layer, x)
            ours = answer_and_gradient(use_fast_kernels(copy.deepcopy(layer)), x)
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(torchs, ours, strict=True))

    def test_it_is_a_leaky_relu_where_it_is_frozen_and_has_one_slope(self):
        x = noise(2, 3, 4, 5).requires_grad_()

        def operation(layer, x=x):
            return type(layer(x).grad_fn).__name__

        layer = use_fast_kernels(nn.PReLU().requires_grad_(False))
        assert isinstance(layer, FastPReLU) and operation(layer).startswith("Leaky")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert operation(layer, x.bfloat16()).startswith("Leaky") and not operation(layer).startswith("Leaky")
        layer.use_fast = False
        assert operation(layer).startswith("Prelu")
        assert operation(use_fast_kernels(nn.PReLU())).startswith("Prelu")
        assert operation(use_fast_kernels(nn.PReLU(3).requires_grad_(False))).startswith("Prelu")


class CustomConv3d(nn.Conv3d):
    """A convolution with a forward pass of its own."""

    def forward(self, x):
        return super().forward(x) + 1


def test_a_layer_with_a_forward_pass_of_its_own_is_left_alone():
    layer = CustomConv3d(2, 2, 3).requires_grad_(False)
    use_fast_kernels(layer)
    assert type(layer) is CustomConv3d


def small_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.PReLU(), nn.Conv3d(6, 2, 3, padding=1)).eval()


def test_a_shadow_gets_fast_layers_and_the_source_keeps_its_own():
    source = small_network()
    made = GraTa().begin(source, "softmax").module
    assert [isinstance(m, FastConv3d | FastPReLU) for m in made] == [True, False, True, True]
    assert [type(m) for m in source] == [nn.Conv3d, nn.BatchNorm3d, nn.PReLU, nn.Conv3d]


def test_an_adapted_answer_is_the_one_with_torchs_kernels(monkeypatch):
    def adapted_answer():
        inferer = AdaptiveInferer((8, 8, 8), 1, method=GraTa(), head="softmax")
        answer = inferer(image(size=12), small_network())
        assert inferer.cases[0].reason is None
        return answer

    ours = adapted_answer()
    monkeypatch.setattr(shadow, "use_fast_kernels", lambda module: module)
    torchs = adapted_answer()
    assert not torch.equal(ours, torchs)
    torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-4)


def test_hooks_and_buffers_of_a_copy_do_not_reach_its_source():
    """A copy gets new empty dictionaries for hooks and buffers, which must be its own."""
    source = network()
    one, other = (Shadow(source, "softmax", None).module for _ in range(2))
    layer = next(name for name, m in source.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    one.get_submodule(layer).register_forward_hook(lambda *a: None)
    one.register_buffer("extra", torch.zeros(1), persistent=False)
    for module in (source, other):
        assert not module.get_submodule(layer)._forward_hooks and not hasattr(module, "extra")
        assert not module._non_persistent_buffers_set


def test_fast_kernels_and_chosen_statistics_work_together():
    module = use_fast_kernels(with_statistics(small_network(), "window", 1.0))
    assert module(noise(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
