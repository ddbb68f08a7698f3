"""What is asked of the network, in which arithmetic, and how much memory that keeps."""

import json
import resource
import weakref

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import SegResNet
from torch import nn
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer, GraTa, Source, Statistics, ViewAverage
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.compute import precision as arithmetics
from monai_tta.compute.checkpointing import checkpoint_blocks
from monai_tta.compute.precision import each_finite
from monai_tta.compute.window_batches import voxels_at_once, windows_at_once
from monai_tta.core.gradients import cosine, gradient
from monai_tta.core.shadow import Shadow
from monai_tta.evaluation.costs import CostJob
from monai_tta.inference.window_selection import ScoredWindow, WindowSelector, WindowShortlist, informativeness
from tests.small import CON, FAST, LEARNERS, NORMS, ROWS, TENT, around, image, network, run

NATIVE = arithmetics.native_half_dtype(torch.device("cpu")) is not None


def counting():
    """A network that counts the windows the source itself is asked about."""

    def work(self, x):
        if self is net:
            asked.append(len(x))
        return self.net(x)

    asked, net = [], around(work)
    return net, asked


class TestAsking:
    def test_a_volume_of_64_windows_costs_the_source_a_batch_and_four_looks(self):
        net, asked = counting()
        _, case = run(net, x=image(size=20))
        assert case.n_windows == 1 and case.changed_fraction is None and case.seconds_plain is None
        assert sum(asked) == 2 + 4

    def test_where_the_head_is_told_it_costs_the_looks_alone(self):
        net, asked = counting()
        answer, case = run(net, x=image(size=20), head="softmax")
        assert case.n_windows == 1 and sum(asked) == 4
        again, _ = run(network(), x=image(size=20))
        assert torch.equal(answer, again)

    def test_a_guard_costs_a_plain_answer(self):
        net, asked = counting()
        _, case = run(net, x=image(size=20), guard=lambda plain, adapted, head: None)
        assert sum(asked) == 2 + 4 + 64 and case.changed_fraction > 0 and case.seconds_plain > 0

    def test_nothing_is_asked_of_the_source_when_the_image_is_one_window_and_the_head_is_told(self):
        net, asked = counting()
        answer, case = run(net, x=image(size=8), head="softmax")
        assert not asked and case.n_windows == 1
        again, _ = run(net, x=image(size=8))
        assert sum(asked) == 1, "the number of channels tells the head"
        assert torch.equal(answer, again)

    @pytest.mark.parametrize("row", ["Statistics", "ViewAverage"])
    def test_nor_when_no_window_teaches(self, row):
        net, asked = counting()
        run(net, ROWS[row], image(size=20), head="softmax")
        assert not asked

    def test_source_is_the_plain_inferer_and_no_more(self):
        net, asked = counting()
        answer, case = run(net, Source(), image(size=20))
        assert sum(asked) == 64 and case.reason is None
        assert torch.equal(answer, SlidingWindowInferer(8, 2, 0.5)(image(size=20), net))

    def test_few_windows_are_all_looked_at(self):
        net, windows = network(), image(n=16, size=8, seed=3).split(1)
        teachers, best = WindowSelector(4), WindowShortlist(4)
        for place, window in enumerate(windows, 1):
            teachers.offer(window)
            best.offer(ScoredWindow(window, place, informativeness(net(window), "softmax") * float(window.std())))
        chosen = teachers.chosen(net, "softmax")
        assert len(chosen) == 4 and all(torch.equal(a, c.window) for a, c in zip(chosen, best.kept, strict=True))

    def test_numbers_near_the_largest_are_finite_and_others_are_not(self):
        large = torch.full((1, 1, 4, 4), 3e38)
        assert not large.sum().isfinite()
        large[..., 0] = 0
        windows = torch.cat([large, torch.rand(1, 1, 4, 4), torch.full((1, 1, 4, 4), float("nan"))])
        assert each_finite(windows).tolist() == [True, True, False]
        assert each_finite(torch.tensor([[1.0, float("inf")], [-float("inf"), 2.0]])).tolist() == [False, False]

    def test_of_many_windows_the_fullest_are_looked_at(self):
        teachers, looked = WindowSelector(2), []
        for k in range(40):
            teachers.offer(image(size=8, seed=k) * (10 if k % 5 == 0 else 0.01))
        teachers.chosen(lambda w: looked.extend(map(torch.std, w)) or network()(w), "softmax")
        assert len(looked) == 8 and min(looked) > 10

    @pytest.mark.parametrize(("free", "calls"), [(True, [8]), (False, [2, 2, 2, 2])])
    def test_small_windows_are_looked_at_together_where_nothing_else_belongs_to_them(self, free, calls):
        teachers, looked = WindowSelector(2), []
        for k in range(10):
            teachers.offer(image(n=2, size=8, seed=k))
        teachers.chosen(lambda w: looked.append(len(w)) or network()(w), "softmax", free)
        assert looked == calls

    def test_answers_of_a_dictionary_and_of_mixed_precision(self):
        net = around(lambda self, x: {"logits": self.net(x), "half": self.net(x).bfloat16()})
        plain = SlidingWindowInferer(8, 2, 0.5)(image(), net)
        answer, case = run(net, head="softmax")
        assert case.reason is None and {k: v.dtype for k, v in answer.items()} == {k: v.dtype for k, v in plain.items()}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
class TestArithmetic:
    def slopes(self, kind, dims, precision, layout, dtype=torch.float32):
        net, x = network(kind, dims).to(dtype), image(dims, size=8).to(dtype)
        if layout == "last":
            x = x.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[dims - 2])
        shadow = TENT.begin(net, "softmax")
        shadow.precision = precision
        value, slope = gradient(lambda w: TENT.loss(shadow, w), x, shadow.moving)
        return value, [s.double() for s in slope]

    @pytest.mark.parametrize("layout", ["first", "last"])
    def test_gradients_against_float64(self, kind, dims, layout):
        value, exact = self.slopes(kind, dims, "exact", "first", torch.float64)
        for precision, tolerance in (("exact", 1e-5), ("fast", 2e-2)):
            near, slope = self.slopes(kind, dims, precision, layout)
            assert near == pytest.approx(value, rel=tolerance)
            assert 1 - cosine(slope, exact) < tolerance

    def test_fast_answers_are_near_and_of_the_plain_type(self, kind, dims):
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


@pytest.mark.skipif(not NATIVE, reason="this machine has no native bfloat16")
@pytest.mark.parametrize("backward", [False, True])
def test_a_network_that_half_width_arithmetic_does_not_know_adapts_exactly(backward):
    def work(self, x):
        y = self.net(x)
        if y.dtype == torch.bfloat16 and (y.requires_grad or not backward):
            raise NotImplementedError("\"histc\" not implemented for 'BFloat16'")
        return y

    fast, case = run(around(work), x=image(), head="softmax", precision="fast")
    exact, _ = run(network(), x=image(), head="softmax", precision="exact")
    assert case.reason is None and case.precision == "exact" and case.n_windows == 1 and len(case.steps) == 1
    torch.testing.assert_close(fast, exact)


def test_float16_takes_no_gradient(monkeypatch):
    monkeypatch.setattr(arithmetics, "native_half_dtype", lambda device: torch.float16)
    x = image(size=8)
    for grad, kind in ((True, torch.float32), (False, torch.float16)):
        with torch.set_grad_enabled(grad), arithmetics.autocast_for("fast", x):
            assert network()[0](x).dtype == kind


class Kept:
    """Bytes that autograd keeps for the way back: now and at most."""

    def __init__(self):
        self.now = self.most = 0
        self.alive = weakref.WeakValueDictionary()

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.keep, lambda held: held)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)

    def keep(self, tensor):
        storage = tensor.untyped_storage()
        held = tensor.detach()
        if storage.data_ptr() not in self.alive:
            self.alive[storage.data_ptr()] = held
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(held, self.forget, storage.nbytes())
        return held

    def forget(self, size):
        self.now -= size


class TestMemory:
    def big(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return SegResNet(
                spatial_dims=3, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1), blocks_up=(1,)
            ).eval()

    def test_a_shadow_adds_what_moves_and_a_hundredth(self):
        net = self.big()
        mine = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
        shadow = Shadow(net, "softmax", TENT.select)
        tensors = [*shadow.module.parameters(), *shadow.module.buffers(), *shadow.moving, *shadow.start]
        new = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        added = sum(size for place, size in new.items() if place not in mine)
        total = sum(t.numel() * 4 for t in net.parameters())
        assert 0 < added <= sum(t.numel() * 4 for t in shadow.moving) + total / 100

    def kept(self, method, windows, recompute=False):
        shadow = method.begin(self.big(), "softmax")
        if recompute:
            shadow.recompute()
        with Kept() as kept, torch.enable_grad():
            method.adapt(shadow, windows, method.loss)
        return kept.most

    @pytest.mark.parametrize("row", LEARNERS)
    def test_learning_keeps_no_more_than_a_training_step_with_the_same_frozen_weights(self, row):
        net, x = self.big(), image(size=16)
        for name, p in net.named_parameters():
            p.requires_grad_("norm" in name)
        with Kept() as training:
            loss = nn.functional.cross_entropy(net(x), torch.zeros(1, 16, 16, 16).long())
            torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad])
        assert 0 < self.kept(ROWS[row], x) <= 1.1 * training.most

    def test_windows_that_teach_together_do_not_add_up(self):
        """Large windows one at a time, small ones as many as have so many voxels together."""
        for together in (1, 2):
            with voxels_at_once(together * 16**3):
                few, more = (self.kept(TENT, image(size=16, n=n)) for n in (together, 4))
            assert more <= 1.01 * few
        assert windows_at_once(image(size=64)) == 1 and windows_at_once(image(size=32)) == 8

    def test_recomputing_keeps_less_and_learns_the_same(self):
        less, usual = (self.kept(TENT, image(size=16), recompute=r) for r in (True, False))
        assert less < 0.6 * usual
        answers = [run(self.big(), x=image(size=16), recompute=r)[0] for r in (True, False)]
        torch.testing.assert_close(*answers)

    def test_blocks_are_the_smallest_with_both_kinds_of_layers(self):
        assert checkpoint_blocks(self.big()) == 4  # three residual blocks and the head behind its norm
        assert checkpoint_blocks(nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())) == 0

    def test_a_long_cohort_takes_no_more_memory_than_a_short_one(self):
        net, made = network(), AdaptiveInferer(8, 2, 0.5, method=TENT, reset="never")
        peaks = []
        for number in range(200):
            with torch.no_grad():
                made(image(seed=number), net)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert len(made.cases) == 200
        assert peaks[-1] - peaks[50] < 4096, "KiB"


@pytest.mark.parametrize("method", [ViewAverage(), Statistics(blend=0.3), TENT])
def test_answers_in_fast_arithmetic_reach_the_stitcher_in_float32(method):
    seen = []

    class Noting(SlidingWindowInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            def noting(*given, **named):
                answer = network(*given, **named)
                seen.append(answer.dtype)
                return answer

            return super().__call__(inputs, noting, *args, **kwargs)

    _, case = run(network(), method, inferer=Noting(8, 2, 0.5), precision="fast")
    assert case.reason is None and set(seen[-4:]) == {torch.float32}


def test_profile_of_a_bundle(tmp_path):
    file = tmp_path / "profile.json"
    words = ["profile", str(BUNDLE), "--size", "32,32,32", "--repeats", "2", "--out", str(file)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    found = json.loads(file.read_text())
    costs = {cost["way"]: cost for cost in found["costs"]}
    assert list(costs) == ["plain", "paper order", "exact", "fast"] and found["windows"] >= 1
    assert all(len(c["seconds"]) == 2 and min(c["seconds"]) > 0 and 0 < c["floor"] for c in costs.values())
    # One GraTa step in 3D: five forwards without gradient, two with, two backwards.
    assert costs["paper order"]["operations"] > 6 * costs["plain"]["operations"]
    assert costs["exact"]["operations"] <= costs["paper order"]["operations"]
    assert costs["paper order"]["memory"] > 0


def test_profile_refuses_what_it_cannot_time(tmp_path):
    told = CliRunner().invoke(app, ["profile", str(tmp_path)])
    assert told.exit_code == 2 and "configs/inference.yaml" in told.output


@pytest.mark.parametrize(("bundle", "size"), [("hippocampus_mri", (32, 32, 32)), ("vessel_fundus", (256, 256))])
def test_exact_answers_as_the_paper_order_does(bundle, size):
    job = CostJob(BUNDLE.parent / bundle, GraTa(), size)
    with torch.no_grad():
        paper, exact, plain = (job.way(way)() for way in ("paper order", "exact", "plain"))
    torch.testing.assert_close(exact, paper, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, paper, atol=1e-2, rtol=1e-2)
