"""Whose statistics, against torch's own layers; gradients against float64, also channels-last."""

import copy

import pytest
import torch
from torch import nn

from monai_tta.core import shadow
from monai_tta.core.normalization import TooFewVoxels, with_statistics
from tests.small import ROWS, image, inferer, network


def layer(dims=2, kind="batch"):
    made = {("batch", 2): nn.BatchNorm2d, ("batch", 3): nn.BatchNorm3d, ("instance", 2): nn.InstanceNorm2d}[kind, dims](
        3, affine=True
    )
    generator = torch.Generator().manual_seed(0)
    for tensor in [made.weight, made.bias, *([made.running_mean, made.running_var] if kind == "batch" else [])]:
        tensor.data.copy_(torch.rand(3, generator=generator) + 0.5)
    return made.eval()


def features(n=2, dims=2):
    return torch.randn(n, 3, *[6] * dims, generator=torch.Generator().manual_seed(1)) * 3 + 1


@pytest.mark.parametrize("dims", [2, 3])
def test_source_is_batchnorm_in_eval_mode(dims):
    torch.testing.assert_close(
        with_statistics(layer(dims), "source", 1.0, "n")(features(dims=dims)), layer(dims)(features(dims=dims))
    )


@pytest.mark.parametrize("use_fast", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_window_is_batchnorm_in_training_mode_one_window_at_a_time(dims, use_fast):
    own, ours = layer(dims).train(), with_statistics(layer(dims), "window", 1.0, "n")
    ours.use_fast = use_fast
    expected = torch.cat([own(x) for x in features(dims=dims).split(1)])
    torch.testing.assert_close(ours(features(dims=dims)), expected)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("dims", "form"), [(2, torch.contiguous_format), (2, torch.channels_last), (3, torch.contiguous_format)])
def test_quick_moments_are_the_usual_ones(dims, form, kind, pool, monkeypatch):
    """Also of a channel that is nearly constant, and of one far from zero."""
    x = features(3, dims) * torch.tensor([1e-3, 1.0, 3.0]).view(3, *[1] * dims) + torch.tensor([0, 0, 40.0]).view(3, *[1] * dims)
    x = x.to(kind).contiguous(memory_format=form)
    axes = [0, *range(2, x.ndim)] if pool else list(range(2, x.ndim))
    var, mean = torch.var_mean(x.double(), axes, correction=0)
    ours = with_statistics(layer(dims), "volume", 1.0, "n")
    with monkeypatch.context() as patched:
        patched.setattr(torch, "var_mean", None)  # not asked
        found = ours._moments(x, pool)
    exact = torch.float64 if kind == torch.float64 else torch.float32
    assert all(f.dtype == exact for f in found)
    torch.testing.assert_close(found[0].double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((found[1] + ours.eps).sqrt().double(), (var + ours.eps).sqrt(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_channel_counts_as_lying_last_or_not_and_is_normalised_the_same(dims, n):
    own = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](1).double().train()
    ours = with_statistics(copy.deepcopy(own).float().eval(), "window", 1.0, "n")
    x, slope = features(n, dims)[:, :1], features(n, dims)[:, 1:2]
    last = torch.empty_strided(x.shape, (x[0].numel(), 1, *x[0, 0].stride())).copy_(x)
    exact = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(torch.cat([own(one) for one in exact.split(1)]), exact, slope.double())
    for stored in (x.contiguous().requires_grad_(), last.requires_grad_()):
        answer = ours(stored)
        torch.testing.assert_close(answer, torch.cat([own(one) for one in exact.split(1)]).float())
        torch.testing.assert_close(torch.autograd.grad(answer, stored, slope)[0], expected.float(), rtol=1e-4, atol=1e-5)


def test_a_constant_channel_varies_by_nothing():
    ours = with_statistics(layer(3), "volume", 1.0, "n")
    _, var = ours._moments(torch.full((2, 3, 4, 4, 4), 7.0), True)
    assert (var >= 0).all() and var.max() < 1e-8


def test_moments_that_gradients_go_through_are_the_differentiable_ones():
    x = features(2, 3).requires_grad_()
    ours = with_statistics(layer(3), "window", 0.3, "n")
    mean, var = ours._moments(x, False)
    assert mean.requires_grad and var.requires_grad


def test_volume_pools_the_windows_gathered_and_then_stays():
    norm, x = with_statistics(layer(), "volume", 1.0, "n"), features(4)
    torch.testing.assert_close(norm(x), layer()(x))  # nothing gathered: the source's
    norm.pooling = True
    norm(x)
    norm.pooling = False
    torch.testing.assert_close(norm(x[:1]), layer().train()(x)[:1])


def test_blend_runs_from_source_to_present():
    x = features()
    ends = [with_statistics(layer(), s, 1.0, "n")(x) for s in ("source", "window")]
    for share, end in zip((0.0, 1.0), ends, strict=True):
        torch.testing.assert_close(with_statistics(layer(), "window", share, "n")(x), end)
    own, mixed = layer(), with_statistics(layer(), "window", 0.3, "n")(x[:1])
    mean = 0.7 * own.running_mean + 0.3 * x[0].mean((1, 2))
    var = 0.7 * own.running_var + 0.3 * x[0].var((1, 2), correction=0)
    scaled = (x[0] - mean[:, None, None]) / (var[:, None, None] + own.eps).sqrt()
    torch.testing.assert_close(mixed[0], scaled * own.weight[:, None, None] + own.bias[:, None, None])


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("coming_back", [torch.contiguous_format, torch.channels_last])
def test_gradients_agree_with_float64_for_channels_last(kind, share, n, coming_back):
    """`F.instance_norm` on CPU gives wrong gradients for one channels-last window when they come back channels-last."""
    generator = torch.Generator().manual_seed(2)
    x, back = (torch.randn(n, 3, 24, 24, generator=generator) for _ in range(2))
    slopes = []
    for dtype, memory, returned in (
        (torch.float64, torch.contiguous_format, torch.contiguous_format),
        (torch.float32, torch.channels_last, coming_back),
    ):
        norm = with_statistics(copy.deepcopy(layer(kind=kind)).to(dtype), "window", share, "n")
        given = x.to(dtype).contiguous(memory_format=memory).requires_grad_()
        answer = norm(given)
        wanted = [given, norm.weight, norm.bias]
        found = torch.autograd.grad(answer, wanted, back.to(dtype).contiguous(memory_format=returned))
        slopes.append([g.double() for g in found])
    for exact, found in zip(*slopes, strict=True):
        assert (exact - found).norm() < 1e-4 * exact.norm()


def test_one_voxel_is_refused():
    with pytest.raises(TooFewVoxels, match="layer 'n' sees one voxel per channel"):
        with_statistics(layer(), "window", 1.0, "n")(torch.zeros(2, 3, 1, 1))


@pytest.mark.parametrize("kind", ["batch", "instance", "group", "layer"])
def test_memory_layout_changes_rounding_alone(kind, monkeypatch):
    answers, net, colours = [], network(kind, dims=2), image(dims=2, n=3).movedim(1, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net[0] = nn.Conv2d(3, 4, 3, padding=1)  # one channel lies alike in every layout
    assert not shadow.in_fast_layout(colours).is_contiguous()
    for in_fast_layout in (shadow.in_fast_layout, lambda windows: windows):
        monkeypatch.setattr(shadow, "in_fast_layout", in_fast_layout)
        run = inferer(ROWS["GraTa"])
        with torch.no_grad():
            answers.append(run(colours, net))
        assert run.cases[-1].reason is None and run.cases[-1].weight_distance > 0
    torch.testing.assert_close(*answers, rtol=0, atol=1e-4)
