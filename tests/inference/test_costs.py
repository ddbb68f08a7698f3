"""What adapting asks of the source network, and how much memory it takes."""

import resource

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer, GraTa, Source, Tent
from monai_tta.compute.count_passes import count_passes
from monai_tta.core.shadow import Shadow
from tests.compute.saved_bytes import SavedBytes, residual_network, saved_while_adapting
from tests.small import DESCENTS, NEEDS_RUNNING_STATS, ROWS, TENT, around, image, network, run


def counted_network():
    """A network, and the sizes of the batches of windows that the source itself (not a shadow) answers."""

    def work(self, x):
        if self is net:
            batches.append(len(x))
        return self.net(x)

    batches, net = [], around(work)
    return net, batches


class Sequential3d(nn.Sequential):
    """A small network without running statistics."""

    def __init__(self):
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.ReLU(), nn.Conv3d(4, 3, 1))


class TestForwardPassesOfTheSource:
    def test_a_volume_of_64_windows_costs_one_batch_and_four_windows_to_select_from(self):
        net, batches = counted_network()
        _, case = run(net, x=image(size=20))
        assert case.n_windows == 1 and case.changed_fraction is None and case.seconds_unadapted is None
        assert sum(batches) == 2 + 4

    def test_with_a_given_head_only_the_four_windows(self):
        net, batches = counted_network()
        answer, case = run(net, x=image(size=20), head="softmax")
        assert case.n_windows == 1 and sum(batches) == 4
        again, _ = run(network(), x=image(size=20))
        assert torch.equal(answer, again)

    def test_a_callable_guard_costs_an_unadapted_answer(self):
        net, batches = counted_network()
        _, case = run(net, x=image(size=20), guard=lambda unadapted, adapted, head: None)
        assert sum(batches) == 2 + 4 + 64 and case.changed_fraction > 0 and case.seconds_unadapted > 0

    def test_an_image_of_one_window_costs_nothing_with_a_given_head(self):
        net, batches = counted_network()
        answer, case = run(net, x=image(size=8), head="softmax")
        assert not batches and case.n_windows == 1
        again, _ = run(net, x=image(size=8))
        assert sum(batches) == 1, "the number of channels tells the head"
        assert torch.equal(answer, again)

    @pytest.mark.parametrize("row", ["Statistics", "ViewAverage"])
    def test_a_method_without_adaptation_windows_costs_nothing(self, row):
        net, batches = counted_network()
        run(net, ROWS[row], image(size=20), head="softmax")
        assert not batches

    def test_the_source_method_costs_what_the_inner_inferer_costs(self):
        net, batches = counted_network()
        answer, case = run(net, Source(), image(size=20))
        assert sum(batches) == 64 and case.reason == "the method is Source: nothing adapts" and not case.adapted
        assert torch.equal(answer, SlidingWindowInferer(8, 2, 0.5)(image(size=20), net))


class TestPassesOfWindows:
    @pytest.mark.parametrize(
        ("method", "head", "passes"),
        [
            (Tent(), "softmax", (5, 1)),
            (GraTa(), "softmax", (10, 2)),
            (GraTa(), "auto", (11, 2)),
        ],
    )
    def test_what_is_paid_besides_the_answer_to_27_windows_is_what_the_page_on_cost_says(self, method, head, passes):
        net = Sequential3d()
        made = AdaptiveInferer(method=method, inferer=SlidingWindowInferer((8, 8, 8), 1, 0.5), head=head)
        with torch.no_grad(), count_passes(net) as counted:
            made(torch.rand(1, 1, 16, 16, 16), net)
        assert made.cases[-1].adapted
        assert (counted.forwards - 27, counted.backwards) == passes


class TestMemory:
    def test_a_shadow_adds_what_moves_and_a_hundredth(self):
        net = residual_network()
        source = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers())}
        shadow = Shadow(net, "softmax", TENT.select)
        tensors = [*shadow.module.parameters(), *shadow.module.buffers(), *shadow.moving, *shadow.start]
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        added = sum(size for place, size in sizes.items() if place not in source)
        total = sum(t.numel() * 4 for t in net.parameters())
        assert 0 < added <= sum(t.numel() * 4 for t in shadow.moving) + total / 100

    @pytest.mark.parametrize("row", [row for row in DESCENTS if row not in NEEDS_RUNNING_STATS])
    def test_adapting_saves_no_more_than_a_training_step_with_the_same_frozen_weights(self, row):
        net, x = residual_network(), image(size=16)
        for name, p in net.named_parameters():
            p.requires_grad_("norm" in name)
        with SavedBytes() as training:
            loss = nn.functional.cross_entropy(net(x), torch.zeros(1, 16, 16, 16).long())
            torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad])
        assert 0 < saved_while_adapting(ROWS[row], x) <= 1.1 * training.most

    def test_a_long_cohort_takes_no_more_memory_than_a_short_one(self):
        net, made = network(), AdaptiveInferer(8, 2, 0.5, method=TENT, reset="never")
        peaks = []
        for number in range(200):
            with torch.no_grad():
                made(image(seed=number), net)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert len(made.cases) == 200
        assert peaks[-1] - peaks[50] < 4096, "KiB"
