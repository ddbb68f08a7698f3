"""Normalisation with a choice of statistics, against torch's own layers and against float64, in several memory layouts."""

import copy

import pytest
import torch
from torch import nn

from monai_tta.core import shadow
from monai_tta.core.normalization import TooFewVoxels, with_statistics
from tests.small import ROWS, image, inferer, network


def layer(dims=2, kind="batch"):
    """A layer of three channels with random scale, shift and running statistics."""
    types = {("batch", 2): nn.BatchNorm2d, ("batch", 3): nn.BatchNorm3d, ("instance", 2): nn.InstanceNorm2d}
    made = types[kind, dims](3, affine=True)
    generator = torch.Generator().manual_seed(0)
    for tensor in [made.weight, made.bias, *([made.running_mean, made.running_var] if kind == "batch" else [])]:
        tensor.data.copy_(torch.rand(3, generator=generator) + 0.5)
    return made.eval()


def features(n=2, dims=2):
    return torch.randn(n, 3, *[6] * dims, generator=torch.Generator().manual_seed(1)) * 3 + 1


@pytest.mark.parametrize("dims", [2, 3])
def test_source_is_batchnorm_in_eval_mode(dims):
    ours = with_statistics(layer(dims), "source", 1.0, "n")
    torch.testing.assert_close(ours(features(dims=dims)), layer(dims)(features(dims=dims)))


@pytest.mark.parametrize("use_fast", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_window_is_batchnorm_in_training_mode_one_window_at_a_time(dims, use_fast):
    torchs = layer(dims).train()
    ours = with_statistics(layer(dims), "window", 1.0, "n")
    ours.use_fast = use_fast
    expected = torch.cat([torchs(x) for x in features(dims=dims).split(1)])
    torch.testing.assert_close(ours(features(dims=dims)), expected)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("dims", "layout"), [(2, torch.contiguous_format), (2, torch.channels_last), (3, torch.contiguous_format)]
)
def test_fast_moments_are_those_of_var_mean(dims, layout, dtype, pool, monkeypatch):
    """Also of a channel that is nearly constant, and of one far from zero."""
    per_channel = (3, *[1] * dims)
    x = features(3, dims) * torch.tensor([1e-3, 1.0, 3.0]).view(per_channel) + torch.tensor([0, 0, 40.0]).view(per_channel)
    x = x.to(dtype).contiguous(memory_format=layout)
    axes = [0, *range(2, x.ndim)] if pool else list(range(2, x.ndim))
    var, mean = torch.var_mean(x.double(), axes, correction=0)
    ours = with_statistics(layer(dims), "volume", 1.0, "n")
    with monkeypatch.context() as patched:
        patched.setattr(torch, "var_mean", None)  # a call would fail
        our_mean, our_var = ours._moments(x, pool)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    assert our_mean.dtype == our_var.dtype == exact
    torch.testing.assert_close(our_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((our_var + ours.eps).sqrt().double(), (var + ours.eps).sqrt(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_channel_is_normalised_alike_in_each_layout(dims, n):
    torchs = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](1).double().train()
    ours = with_statistics(copy.deepcopy(torchs).float().eval(), "window", 1.0, "n")
    x = features(n, dims)[:, :1]
    gradient = features(n, dims)[:, 1:2]
    channels_last = torch.empty_strided(x.shape, (x[0].numel(), 1, *x[0, 0].stride())).copy_(x)
    exact = x.double().requires_grad_()
    expected = torch.cat([torchs(window) for window in exact.split(1)])
    (expected_gradient,) = torch.autograd.grad(expected, exact, gradient.double())
    for stored in (x.contiguous().requires_grad_(), channels_last.requires_grad_()):
        answer = ours(stored)
        torch.testing.assert_close(answer, expected.float())
        (found,) = torch.autograd.grad(answer, stored, gradient)
        torch.testing.assert_close(found, expected_gradient.float(), rtol=1e-4, atol=1e-5)


def test_the_variance_of_a_constant_channel_is_zero():
    ours = with_statistics(layer(3), "volume", 1.0, "n")
    _, var = ours._moments(torch.full((2, 3, 4, 4, 4), 7.0), True)
    assert (var >= 0).all() and var.max() < 1e-8


def test_moments_of_features_that_take_a_gradient_are_differentiable():
    x = features(2, 3).requires_grad_()
    ours = with_statistics(layer(3), "window", 0.3, "n")
    mean, var = ours._moments(x, False)
    assert mean.requires_grad and var.requires_grad


def test_volume_uses_the_pooled_statistics_from_then_on():
    norm = with_statistics(layer(), "volume", 1.0, "n")
    x = features(4)
    torch.testing.assert_close(norm(x), layer()(x))  # nothing pooled yet: the running statistics
    norm.pooling = True
    norm(x)
    norm.pooling = False
    torch.testing.assert_close(norm(x[:1]), layer().train()(x)[:1])


def test_a_blend_lies_between_the_source_and_the_window():
    x = features()
    ends = [with_statistics(layer(), s, 1.0, "n")(x) for s in ("source", "window")]
    for blend, end in zip((0.0, 1.0), ends, strict=True):
        torch.testing.assert_close(with_statistics(layer(), "window", blend, "n")(x), end)
    source = layer()
    blended = with_statistics(layer(), "window", 0.3, "n")(x[:1])
    mean = 0.7 * source.running_mean + 0.3 * x[0].mean((1, 2))
    var = 0.7 * source.running_var + 0.3 * x[0].var((1, 2), correction=0)
    scaled = (x[0] - mean[:, None, None]) / (var[:, None, None] + source.eps).sqrt()
    torch.testing.assert_close(blended[0], scaled * source.weight[:, None, None] + source.bias[:, None, None])


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize("blend", [0.3, 1.0])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_in_channels_last_layout_are_those_of_float64(kind, blend, n, gradient_layout):
    """`F.instance_norm` on CPU gives wrong gradients for one channels-last window when they come back channels-last."""
    generator = torch.Generator().manual_seed(2)
    x, gradient = (torch.randn(n, 3, 24, 24, generator=generator) for _ in range(2))
    results = []
    for dtype, layout, layout_of_gradient in (
        (torch.float64, torch.contiguous_format, torch.contiguous_format),
        (torch.float32, torch.channels_last, gradient_layout),
    ):
        norm = with_statistics(copy.deepcopy(layer(kind=kind)).to(dtype), "window", blend, "n")
        stored = x.to(dtype).contiguous(memory_format=layout).requires_grad_()
        answer = norm(stored)
        tensors = [stored, norm.weight, norm.bias]
        found = torch.autograd.grad(answer, tensors, gradient.to(dtype).contiguous(memory_format=layout_of_gradient))
        results.append([g.double() for g in found])
    for exact, found in zip(*results, strict=True):
        assert (exact - found).norm() < 1e-4 * exact.norm()


def test_one_voxel_keeps_the_statistics_of_the_source():
    norm, x = with_statistics(layer(), "window", 1.0, "n"), torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(norm(x), layer()(x))
    assert norm.kept_source


def test_one_voxel_without_statistics_of_the_source_is_refused():
    bare = nn.BatchNorm2d(3, track_running_stats=False).eval()
    with pytest.raises(TooFewVoxels, match="layer 'n' sees one voxel per channel.* larger windows"):
        with_statistics(bare, "window", 1.0, "n")(torch.zeros(2, 3, 1, 1))


@pytest.mark.parametrize("kind", ["batch", "instance", "group", "layer"])
def test_the_memory_layout_changes_rounding_only(kind, monkeypatch):
    answers = []
    net = network(kind, dims=2)
    colours = image(dims=2, n=3).movedim(1, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net[0] = nn.Conv2d(3, 4, 3, padding=1)  # several channels, because one has the same layout in every format
    assert not shadow.in_fast_layout(colours).is_contiguous()
    for in_fast_layout in (shadow.in_fast_layout, lambda windows: windows):
        monkeypatch.setattr(shadow, "in_fast_layout", in_fast_layout)
        run = inferer(ROWS["GraTa"])
        with torch.no_grad():
            answers.append(run(colours, net))
        assert run.cases[-1].reason is None and run.cases[-1].weight_distance > 0
    torch.testing.assert_close(*answers, rtol=0, atol=1e-4)
