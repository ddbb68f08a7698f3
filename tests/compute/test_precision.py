"""Exact and fast arithmetic: how near they are, where fast falls back to exact, and what stays in float32."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_tta import GraTa, Statistics, ViewAverage
from monai_tta.compute import precision as arithmetics
from monai_tta.compute.precision import each_finite
from monai_tta.core.gradients import cosine, gradient
from tests.small import CON, FAST, NORMS, ROWS, TENT, around, image, network, run

NATIVE = arithmetics.native_half_dtype(torch.device("cpu")) is not None


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
class TestFastIsNearExact:
    def loss_and_gradient(self, kind, dims, precision, layout, dtype=torch.float32):
        net, x = network(kind, dims).to(dtype), image(dims, size=8).to(dtype)
        if layout == "last":
            x = x.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[dims - 2])
        shadow = TENT.begin(net, "softmax")
        shadow.precision = precision
        value, found = gradient(lambda w: TENT.loss(shadow, w), x, shadow.moving)
        return value, [g.double() for g in found]

    @pytest.mark.parametrize("layout", ["first", "last"])
    def test_gradients_against_float64(self, kind, dims, layout):
        value, reference = self.loss_and_gradient(kind, dims, "exact", "first", torch.float64)
        for precision, tolerance in (("exact", 1e-5), ("fast", 2e-2)):
            near, found = self.loss_and_gradient(kind, dims, precision, layout)
            assert near == pytest.approx(value, rel=tolerance)
            assert 1 - cosine(found, reference) < tolerance

    def test_fast_answers_are_near_and_of_the_same_dtype(self, kind, dims):
        x, options = image(dims, size=12), {"method": GraTa(optimizer=FAST, pseudo=CON), "head": "softmax"}
        exact, _ = run(network(kind, dims), x=x, precision="exact", **options)
        fast, case = run(network(kind, dims), x=x, precision="fast", **options)
        assert case.reason is None and case.precision == "fast" and fast.dtype == exact.dtype
        assert (fast - exact).abs().mean() < 0.03 * exact.abs().mean()
        assert torch.equal(fast, exact) != NATIVE


@pytest.mark.parametrize("row", ROWS)
def test_fast_is_exact_on_a_machine_without_half_width_arithmetic(row, monkeypatch):
    monkeypatch.setattr(arithmetics, "native_half_dtype", lambda device: None)
    answers = [run(network(), ROWS[row], precision=p)[0] for p in ("exact", "fast")]
    assert torch.equal(*answers)


@pytest.fixture
def with_bfloat16(monkeypatch):
    """A machine that computes in bfloat16. Where it does not natively, torch emulates it."""
    monkeypatch.setattr(arithmetics, "native_half_dtype", lambda device: torch.bfloat16)


@pytest.mark.parametrize("backward", [False, True])
def test_a_network_without_half_width_kernels_adapts_exactly(with_bfloat16, backward):
    def work(self, x):
        y = self.net(x)
        if y.dtype == torch.bfloat16 and (y.requires_grad or not backward):
            raise NotImplementedError("\"histc\" not implemented for 'BFloat16'")
        return y

    fast, case = run(around(work), x=image(), head="softmax", precision="fast")
    exact, _ = run(network(), x=image(), head="softmax", precision="exact")
    assert case.reason is None and case.precision == "exact" and case.n_windows == 1 and len(case.steps) == 1
    torch.testing.assert_close(fast, exact)


def test_no_gradient_is_taken_through_float16(monkeypatch):
    monkeypatch.setattr(arithmetics, "native_half_dtype", lambda device: torch.float16)
    x = image(size=8)
    for grad, dtype in ((True, torch.float32), (False, torch.float16)):
        with torch.set_grad_enabled(grad), arithmetics.autocast_for("fast", x):
            assert network()[0](x).dtype == dtype


@pytest.mark.parametrize("method", [ViewAverage(), Statistics(blend=0.3), TENT])
def test_fast_answers_reach_the_stitcher_in_float32(with_bfloat16, method):
    seen = []

    class DtypeRecorder(SlidingWindowInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            def recorded(*args, **kwargs):
                answer = network(*args, **kwargs)
                seen.append(answer.dtype)
                return answer

            return super().__call__(inputs, recorded, *args, **kwargs)

    _, case = run(network(), method, inferer=DtypeRecorder(8, 2, 0.5), precision="fast")
    assert case.reason is None and set(seen[-4:]) == {torch.float32}


def test_answers_in_a_dictionary_keep_their_dtypes():
    net = around(lambda self, x: {"logits": self.net(x), "half": self.net(x).bfloat16()})
    unadapted = SlidingWindowInferer(8, 2, 0.5)(image(), net)
    answer, case = run(net, head="softmax")
    assert case.reason is None and {k: v.dtype for k, v in answer.items()} == {k: v.dtype for k, v in unadapted.items()}


def test_numbers_near_the_largest_are_finite_and_others_are_not():
    large = torch.full((1, 1, 4, 4), 3e38)
    assert not large.sum().isfinite()
    large[..., 0] = 0
    windows = torch.cat([large, torch.rand(1, 1, 4, 4), torch.full((1, 1, 4, 4), float("nan"))])
    assert each_finite(windows).tolist() == [True, True, False]
    assert each_finite(torch.tensor([[1.0, float("inf")], [-float("inf"), 2.0]])).tolist() == [False, False]
