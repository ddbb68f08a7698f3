"""Each guard fires and keeps still where it should; what it doesn't read is not computed."""

import copy
import pickle
from math import log
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from monai_tta import AdaptiveInferer, Statistics, Tent, guards
from monai_tta.core import views
from monai_tta.core.views import Views
from monai_tta.guards import (
    Agreement,
    AllOf,
    Components,
    Distance,
    Entropy,
    Finite,
    Guard,
    Shape,
    ViewAgreement,
    VolumeChange,
    WeightDistance,
)
from monai_tta.guards import reference_ranges as reference
from monai_tta.guards import shape_features as shapes
from monai_tta.guards.evidence import Evidence
from monai_tta.guards.reference_ranges import CaseFigures, ReferenceRanges, ranges_of_cases
from monai_tta.guards.shape_features import ShapeFeatures, measure_shape
from tests.small import LEARNERS, ROWS, TENT, image, inferer, network

BALL = ranges_of_cases(
    [CaseFigures((ShapeFeatures(v, 1, 1.0 + v / 1000, 0.9),), 0.1 + v / 1000, (0.2, 0.4), "voxel") for v in (90, 110)], False
)
VALUES = [
    Finite(),
    VolumeChange(0.3),
    Agreement(0.4),
    ViewAgreement(0.2, Views(axes=(0,))),
    Entropy(most=0.3),
    Entropy(reference=BALL, slack=2.0),
    Distance(most=2.0, least=0.1),
    Distance(reference=BALL),
    WeightDistance(0.2),
    Components(2, small=3),
    Shape(BALL),
    AllOf([Finite(), VolumeChange(0.3)]),
]


def logits(*boxes, dims=2, head="softmax", size=24):
    """Logits of one structure made of boxes ``(start, stop)`` along every axis."""
    mask = torch.zeros(*[size] * dims)
    for start, stop in boxes:
        mask[(slice(start, stop),) * dims] = 1
    one = (mask * 2 - 1)[None, None] * 6
    return torch.cat([torch.zeros_like(one), one], 1) if head == "softmax" else one


def refused(*_):
    raise AssertionError("this costs, and was not to be asked for")


def evidence(adapted, unadapted=refused, head="softmax", spacing=None, distances=None):
    made = Evidence(
        adapted=adapted,
        head=head,
        shadow=None,
        spacing=spacing,
        compute_unadapted=unadapted if callable(unadapted) else lambda: unadapted,
        compute_source=refused,
        compute_windows=refused,
        compute_fresh=refused,
    )
    if distances is not None:
        made.__dict__["distances"] = distances
    return made


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_guard_is_a_value(value):
    assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value) and hash(value) == hash(copy.deepcopy(value))
    names = {k: v for m in (guards, reference, shapes, views) for k, v in vars(m).items()}
    assert eval(repr(value), names) == value
    with pytest.raises(AttributeError):
        value.most = 3


@pytest.mark.parametrize(
    "build",
    [
        lambda: VolumeChange(2),
        lambda: Agreement(-1),
        lambda: ViewAgreement(3),
        lambda: WeightDistance(0),
        lambda: Components(0),
        lambda: Entropy(),
        lambda: Entropy(most=1, reference=BALL),
        lambda: Distance(),
        lambda: AllOf([3]),
        lambda: Components(1.5),
        lambda: Entropy(most=float("nan")),
        lambda: Distance(most=float("nan")),
        lambda: Distance(least=-1),
        lambda: Shape("norms.json"),
        lambda: Shape(None),
        lambda: Shape(BALL, slack=-1),
        lambda: AdaptiveInferer(8, guard="volume"),
        lambda: AdaptiveInferer(8, guard=VolumeChange),
    ],
)
def test_nonsense_is_refused_and_named(build):
    with pytest.raises(ValueError, match="found"):
        build()


def test_a_config_makes_guards():
    parser = ConfigParser(
        {
            "guard": {
                "_target_": "monai_tta.guards.AllOf",
                "guards": [
                    {"_target_": "monai_tta.guards.VolumeChange", "most": 0.3},
                    {"_target_": "monai_tta.guards.Entropy", "most": 0.5},
                ],
            }
        }
    )
    assert parser.get_parsed_content("guard") == AllOf([VolumeChange(0.3), Entropy(most=0.5)])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_volume_agreement_pieces(dims, head):
    kind = {"dims": dims, "head": head}
    large, small, two = logits((4, 14), **kind), logits((4, 9), **kind), logits((2, 6), (12, 16), **kind)
    shrunk = evidence(small, large, head)
    said = VolumeChange(0.5).check(shrunk)
    assert f"structure 1 changes from {10**dims} to {5**dims} voxels" in said
    assert "agree" in Agreement(0.9).check(shrunk)
    assert VolumeChange(0.9).check(shrunk) is None and Agreement(0.1).check(shrunk) is None
    assert VolumeChange(0).check(evidence(large, large, head)) is None and Agreement(0.99).check(shrunk) is not None
    assert "2 pieces" in Components(1).check(evidence(two, head=head))
    assert (
        Components(2).check(evidence(two, head=head)) is None
        and Components(1, small=9999).check(evidence(two, head=head)) is None
    )


def test_specks_do_not_count_as_volume():
    assert VolumeChange(0.5, small=64).check(evidence(logits(), logits((3, 6)))) is None
    assert VolumeChange(0.5, small=9).check(evidence(logits(), logits((3, 6)))) is not None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))
def test_volume_change_is_symmetric(a, b, most):
    x, y = logits((0, a)), logits((0, b))
    there, back = (VolumeChange(most, small=0).check(evidence(p, q)) for p, q in ((x, y), (y, x)))
    assert (there is None) == (back is None) == (abs(a * a - b * b) <= most * max(a, b) ** 2)


def test_finite():
    bad = logits((4, 9))
    bad[0, 0, 0, 0] = float("nan")
    assert Finite().check(evidence(bad, logits((4, 9)))) == "the adapted answer is not finite"
    assert Finite().check(evidence(bad, bad)) is None, "the image's own"
    assert Finite().check(evidence(logits((4, 9)))) is None, "and without asking for a plain answer"


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_entropy_in_nats_and_against_the_source(head):
    flat = evidence(logits((4, 9), head=head) * 0, head=head)
    assert f"{log(2):.3g} nats" in Entropy(most=0.6).check(flat) and Entropy(most=0.7).check(flat) is None
    assert "expected" in Entropy(reference=BALL).check(flat) and Entropy(reference=BALL, slack=40).check(flat) is None
    assert Entropy(reference=BALL).check(evidence(logits((4, 9), head=head) * 9, head=head)) is not None, "certain of everything"


def test_distance_overall_and_layer_by_layer():
    near, far = evidence(logits(), distances=(0.2, 0.4)), evidence(logits(), distances=(0.2, 3.4))
    assert Distance(most=1.0).check(near) is None
    assert "1.80 deviations" in Distance(most=1.0).check(far) and "layer 2 of 2" in Distance(most=1.0).check(far)
    assert "as the source's own" in Distance(least=0.5).check(near) and Distance(least=0.5).check(far) is None
    assert Distance(reference=BALL).check(near) is None and "layer 2 of 2 is 3.40" in Distance(reference=BALL).check(far)
    assert "2 layers" in Distance(reference=BALL).check(evidence(logits(), distances=(0.1,)))
    assert Distance(most=1.0).check(evidence(logits(), distances=())) is None, "a network that remembers nothing"
    assert Distance(most=1.0).check(evidence(logits(), distances=(float("nan"),))) is not None


@pytest.mark.parametrize("dims", [2, 3])
def test_shape_against_the_source(dims):
    own = measure_shape(logits((4, 14), dims=dims)[0, 1] > 0, (2.0,) * dims)
    known = ranges_of_cases([CaseFigures((own,), 0.1, (), "affine")], True)
    told = {"spacing": (2.0,) * dims}
    assert Shape(known).check(evidence(logits((4, 14), dims=dims), **told)) is None
    assert Shape(known).check(evidence(logits(dims=dims), **told)) is None, "nothing shown is not saved_stump"
    assert "volume" in Shape(known).check(evidence(logits((4, 8), dims=dims), **told))
    assert "volume" in Shape(known).check(evidence(logits((4, 14), dims=dims), spacing=(1.0,) * dims))
    assert "no affine" in Shape(known).check(evidence(logits((4, 14), dims=dims)))
    stretched = logits((4, 14), dims=dims)
    assert "elongation" in Shape(known).check(
        evidence(stretched, spacing=(1.0, 2.0 ** (dims - 1) * 2 ** (2 - dims + 1), *[2.0] * (dims - 2)))
    )


def test_shape_of_other_structures():
    assert "has 2" in Shape(BALL).check(evidence(torch.randn(1, 3, 8, 8)))
    unseen = ranges_of_cases([CaseFigures((ShapeFeatures(0, 0, float("nan"), float("nan")),), 0.1, (), "voxel")], False)
    assert "none of the source's cases" in Shape(unseen).check(evidence(logits((4, 9))))


def test_all_of_asks_in_order_and_stops():
    asked = []

    class Asked(Guard):
        def __init__(self, says):
            self.says = says

        def check(self, evidence):
            asked.append(self.says)
            return self.says

    assert AllOf([Asked(None), Asked("no"), Asked("never")]).check(None) == "no" and asked == [None, "no"]
    assert AllOf([]).check(None) is None
    assert AllOf([lambda p, a, h: "a callable's"]).check(evidence(logits(), logits())) == "a callable's"


class Counted:
    """How many windows a network answers."""

    def __init__(self, net):
        self.seen = 0
        net.register_forward_hook(self.count)

    def count(self, _, inputs, __):
        self.seen += len(inputs[0])


def windows_asked(guard, method=TENT, **choices):
    net = network()
    counted = Counted(net)
    run = AdaptiveInferer(8, 2, 0.5, method=method, head="softmax", guard=guard, **choices)
    with torch.no_grad():
        run(image(), net)
    assert run.cases[-1].reason is None
    return counted.seen, run.cases[-1]


def test_only_what_is_read_is_computed():
    none, _ = windows_asked(None)
    for free in (
        Finite(),
        Entropy(most=9.0),
        WeightDistance(9.0),
        Components(999),
        AllOf([WeightDistance(9.0), Components(999)]),
    ):
        cost, case = windows_asked(free)
        assert cost == none and case.changed_fraction is None, free
    whole = 8  # windows of 8 at an overlap of a half in an image of 12
    for guard in (VolumeChange(1.0), Agreement(0.0), lambda p, a, h: None, AllOf([VolumeChange(1.0), Agreement(0.0)])):
        cost, case = windows_asked(guard)
        assert cost == none + whole and case.changed_fraction is not None, "one plain answer for all of them"
    four = 4  # windows of an image that only one has taught
    assert windows_asked(Distance(most=99.0))[0] == none + four
    sides = Views(axes=(0,))
    assert windows_asked(ViewAgreement(1.0, sides))[0] == none + four * 2 * 2


@pytest.mark.parametrize(
    ("method", "budget", "seen"),
    [(TENT, "auto", 4), (TENT, 3, 4), (TENT, None, 4), (Tent(statistics="volume"), 1, 1), (Tent(statistics="volume"), "auto", 4)],
)
def test_whoever_judges_sees_four_windows_unless_statistics_are_pooled_over_fewer(method, budget, seen):
    shown = []

    class Look(Guard):
        def check(self, evidence):
            shown.extend(evidence.windows)

    windows_asked(Look(), method, budget=budget)
    assert len(shown) == seen and len({w.sum().item() for w in shown}) == seen


@pytest.mark.parametrize("learn", ["volume", "window"])
@pytest.mark.parametrize("method", [TENT, Statistics()], ids=["Tent", "Statistics"])
def test_windows_are_found_where_none_were_kept(method, learn):
    seen = []

    class Look(Guard):
        def check(self, evidence):
            seen.append(
                (len(evidence.windows), evidence.distances, evidence.unadapted_views(Views()), evidence.adapted_views(Views()))
            )

    net, x = network(), image()
    for switch in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with switch():
            run = AdaptiveInferer(8, 2, 0.5, method=method, head="softmax", learn=learn, guard=Look(), budget=4)
            run(x, net)
        assert run.cases[-1].reason is None
    assert all(n == 4 and len(d) == 2 and 0 < p < 1 and 0 < a < 1 for n, d, p, a in seen)
    assert len({d for _, d, _, _ in seen}) == 1


@pytest.mark.parametrize("row", LEARNERS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_refused_is_bit_equal_to_plain_and_not_carried_on(row, head, dims):
    from monai_tta.inference.inferer import _streams

    net, x = network(dims=dims, head=head), image(dims)
    run = inferer(ROWS[row], head, guard=WeightDistance(1e-9), reset="never")
    with torch.no_grad(), pytest.warns(UserWarning, match="the weights travelled"):
        answer = run(x, net)
        assert torch.equal(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))
    assert "travelled" in run.cases[-1].reason and net not in _streams[run].shadows


def test_warnings_are_once_for_a_kind_of_reason():
    net = network()
    run = inferer(TENT, guard=Agreement(1.0), budget=4)
    with pytest.warns(UserWarning) as caught:
        for seed in range(3):
            run(image(seed=seed), net)
    assert len([w for w in caught if "agree" in str(w.message)]) == 1
    assert len({case.reason for case in run.cases}) == 3


def test_volumes_are_known_by_the_affine():
    seen = []

    class Look(Guard):
        def check(self, evidence):
            seen.append(evidence.spacing)

    affine = torch.diag(torch.tensor([-2.0, 3.0, 0.5, 1.0]))
    run = inferer(TENT, guard=Look())
    run(MetaTensor(image(), affine=affine), network())
    run(image(), network())
    flat = inferer(TENT, guard=Look())
    flat(MetaTensor(image(2), affine=affine), network(dims=2))
    assert seen == [(2.0, 3.0, 0.5), None, (2.0, 3.0)]


def test_view_agreement_fires_where_adapting_ruins_it():
    net = network(dims=2)
    wild = Statistics()

    class Ruin(type(wild)):
        def begin(self, source, head):
            shadow = super().begin(source, head)
            with torch.no_grad():
                last = shadow.module[6]
                last.weight = torch.nn.Parameter(torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(0)) * 30)
            return shadow

    kept = inferer(wild, guard=ViewAgreement(1.0))
    kept(image(2), net)
    assert kept.cases[-1].reason is None
    run = inferer(Ruin(), guard=ViewAgreement(0.02))
    with pytest.warns(UserWarning, match="views agree"):
        run(image(2), net)


@pytest.mark.parametrize("start, share", [(torch.ones(4), 0.25), (torch.zeros(4), 2.5), (torch.full((4,), 0.01), 2.5)])
def test_travelled_is_a_share_that_small_biases_do_not_inflate(start, share):
    made = evidence(logits())
    object.__setattr__(made, "shadow", SimpleNamespace(start=[start], weight_distance=0.5))
    assert made.weight_distance == pytest.approx(share)
    object.__setattr__(made, "shadow", SimpleNamespace(start=[], weight_distance=0.0))
    assert made.weight_distance == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_of_single_voxels_answers_every_pose_alike(dims):
    conv, norm = ((torch.nn.Conv2d, torch.nn.BatchNorm2d), (torch.nn.Conv3d, torch.nn.BatchNorm3d))[dims - 2]
    seen = []

    class Look(Guard):
        def check(self, evidence):
            seen.extend([evidence.unadapted_views(Views()), evidence.adapted_views(Views())])

    net = torch.nn.Sequential(conv(1, 4, 1), norm(4), torch.nn.ReLU(), conv(4, 3, 1)).eval()
    inferer(TENT, guard=Look())(image(dims), net)
    assert seen == pytest.approx([1, 1], abs=1e-5)


def test_norms_there_and_back(tmp_path):
    assert ReferenceRanges.from_json(BALL.to_json()) == BALL
    (tmp_path / "n.json").write_text(BALL.to_json())
    assert guards.read_reference_ranges(tmp_path / "n.json") == BALL
    (tmp_path / "bad.json").write_text("[1]")
    for name in ("none.json", "bad.json"):
        with pytest.raises(ValueError, match=f"{name}.*monai-tta reference"):
            guards.read_reference_ranges(tmp_path / name)
    with pytest.raises(ValueError, match="at least one"):
        ranges_of_cases([], False)
    with pytest.raises(ValueError, match="cases differ"):
        ranges_of_cases([CaseFigures((), 0.1, (), "voxel"), CaseFigures((), 0.1, (0.2,), "voxel")], False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), st.floats(0, 3))
def test_most_source_cases_pass_their_own_norms(values, slack):
    spread = ranges_of_cases([CaseFigures((), v, (), "voxel") for v in values], False).entropy
    low, high = spread.limits(slack)
    assert low <= spread.low <= spread.middle <= spread.high <= high
