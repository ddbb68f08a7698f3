"""Evidence computes only what a guard reads, and shows it the right windows."""

from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor

from monai_tta import AdaptiveInferer, Statistics, Tent
from monai_tta.core.views import Views
from monai_tta.guards import (
    Agreement,
    AllOf,
    Components,
    Distance,
    Entropy,
    Finite,
    Guard,
    ViewAgreement,
    VolumeChange,
    WeightDistance,
)
from tests.guards.example_evidence import box_logits, evidence
from tests.small import TENT, image, inferer, network


class WindowCounter:
    """How many windows go through a network."""

    def __init__(self, net):
        self.count = 0
        net.register_forward_hook(self.add)

    def add(self, _, inputs, __):
        self.count += len(inputs[0])


class Look(Guard):
    """Accept everything; keep what ``read`` takes from each case's evidence."""

    def __init__(self, read):
        self.read = read
        self.seen = []

    def check(self, evidence):
        self.seen.append(self.read(evidence))


def run_guarded(guard, method=TENT, **choices):
    """How many windows go through the network where this guard accepts the answer, and the case's record."""
    net = network()
    counter = WindowCounter(net)
    run = AdaptiveInferer(8, 2, 0.5, method=method, head="softmax", guard=guard, **choices)
    with torch.no_grad():
        run(image(), net)
    assert run.cases[-1].reason is None
    return counter.count, run.cases[-1]


def test_only_what_is_read_is_computed():
    unguarded, _ = run_guarded(None)
    for free in (
        Finite(),
        Entropy(most=9.0),
        WeightDistance(9.0),
        Components(999),
        AllOf([WeightDistance(9.0), Components(999)]),
    ):
        cost, case = run_guarded(free)
        assert cost == unguarded and case.changed_fraction is None, free
    whole = 8  # windows of 8 at an overlap of a half in an image of 12
    callable_guard = lambda unadapted, adapted, head: None  # noqa: E731
    for guard in (VolumeChange(1.0), Agreement(0.0), callable_guard, AllOf([VolumeChange(1.0), Agreement(0.0)])):
        cost, case = run_guarded(guard)
        assert cost == unguarded + whole and case.changed_fraction is not None, "one unadapted answer for all of them"
    four = 4  # guard windows of an image with one adaptation window
    assert run_guarded(Distance(most=99.0))[0] == unguarded + four
    one_mirror = Views(axes=(0,))
    assert run_guarded(ViewAgreement(1.0, one_mirror))[0] == unguarded + four * 2 * 2


@pytest.mark.parametrize(
    ("method", "budget", "expected"),
    [(TENT, "auto", 4), (TENT, 3, 4), (TENT, None, 4), (Tent(statistics="volume"), 1, 1), (Tent(statistics="volume"), "auto", 4)],
)
def test_guards_see_four_windows_unless_statistics_are_pooled_over_fewer(method, budget, expected):
    look = Look(lambda evidence: evidence.windows)
    run_guarded(look, method, budget=budget)
    (windows,) = look.seen
    assert len(windows) == expected and len({w.sum().item() for w in windows}) == expected


@pytest.mark.parametrize("learn", ["volume", "window"])
@pytest.mark.parametrize("method", [TENT, Statistics()], ids=["Tent", "Statistics"])
def test_windows_are_selected_where_none_were_kept(method, learn):
    def read(e):
        return len(e.windows), e.distances, e.unadapted_view_agreement(Views()), e.adapted_view_agreement(Views())

    look = Look(read)
    net, x = network(), image()
    for switch in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with switch():
            run = AdaptiveInferer(8, 2, 0.5, method=method, head="softmax", learn=learn, guard=look, budget=4)
            run(x, net)
        assert run.cases[-1].reason is None
    assert all(n == 4 and len(d) == 2 and 0 < before < 1 and 0 < after < 1 for n, d, before, after in look.seen)
    assert len({distances for _, distances, _, _ in look.seen}) == 1


def test_spacing_comes_from_the_affine():
    look = Look(lambda evidence: evidence.spacing)
    affine = torch.diag(torch.tensor([-2.0, 3.0, 0.5, 1.0]))
    run = inferer(TENT, guard=look)
    run(MetaTensor(image(), affine=affine), network())
    run(image(), network())
    run = inferer(TENT, guard=look)
    run(MetaTensor(image(2), affine=affine), network(dims=2))
    assert look.seen == [(2.0, 3.0, 0.5), None, (2.0, 3.0)]


@pytest.mark.parametrize("start, share", [(torch.ones(4), 0.25), (torch.zeros(4), 2.5), (torch.full((4,), 0.01), 2.5)])
def test_relative_weight_distance_is_a_share_that_small_biases_do_not_inflate(start, share):
    made = evidence(box_logits())
    object.__setattr__(made, "shadow", SimpleNamespace(start=[start], weight_distance=0.5))
    assert made.relative_weight_distance == pytest.approx(share)
    object.__setattr__(made, "shadow", SimpleNamespace(start=[], weight_distance=0.0))
    assert made.relative_weight_distance == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_that_sees_single_voxels_predicts_all_views_alike(dims):
    conv, norm = ((torch.nn.Conv2d, torch.nn.BatchNorm2d), (torch.nn.Conv3d, torch.nn.BatchNorm3d))[dims - 2]
    look = Look(lambda evidence: (evidence.unadapted_view_agreement(Views()), evidence.adapted_view_agreement(Views())))
    net = torch.nn.Sequential(conv(1, 4, 1), norm(4), torch.nn.ReLU(), conv(4, 3, 1)).eval()
    inferer(TENT, guard=look)(image(dims), net)
    assert [agreement for both in look.seen for agreement in both] == pytest.approx([1, 1], abs=1e-5)
