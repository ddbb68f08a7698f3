"""A promptable network prompts itself in rounds: in any inferer, window by window, adapted or not."""

import pickle

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import VISTA3D, SegResNetDS2
from monai.networks.nets.vista3d import ClassMappingClassify, PointMappingSAM
from torch import nn

from monai_tta import (
    SGD,
    AdaptiveInferer,
    GraTa,
    PromptArguments,
    PromptedNetwork,
    PromptRounds,
    SelfPrompting,
    Source,
    Statistics,
    Tent,
)
from monai_tta.core.error_decoder import ErrorDecoder
from monai_tta.inference.prompt_arguments import Prompts
from tests.own_scripts import ClassInferer
from tests.promptable import CALLS, Clickable, dice, discs
from tests.reference.self_prompting import rounds_of_points, tent_step_of_the_last_round
from tests.small import network, same, state


@pytest.fixture(autouse=True)
def fresh_calls():
    CALLS.clear()


CENTRE = {2: (15, 12), 3: (9, 8, 10)}
SHAPE = {2: (32, 28), 3: (20, 18, 22)}


def scan(dims=2, peak=1.0):
    return discs(SHAPE[dims], [CENTRE[dims]], peak=peak)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("prompt", ["points", "points+mask", "mask"])
def test_rounds_find_what_needs_a_prompt(dims, prompt):
    x, truth = scan(dims)
    net = Clickable(dims)
    scores = [dice(SelfPrompting(rounds=n, prompt=prompt)(x, net), truth) for n in (0, 1, 8)]
    assert scores[0] < 0.4 and scores[0] < scores[1] and scores[2] > 0.99
    assert (scores[1] > 0.99) == (prompt == "points")  # a mask grows round by round


def test_a_loop_ends_when_the_mask_stays():
    x, _ = scan()
    SelfPrompting(rounds=9)(x, Clickable())
    assert len(CALLS) == 3  # the core, the whole object, and the whole object again
    CALLS.clear()
    SelfPrompting(rounds=1)(x, Clickable())
    assert len(CALLS) == 2


def test_a_box_holds_the_mask():
    x, _ = scan()
    answer = SelfPrompting(rounds=1, prompt="box")(x, Clickable())
    assert CALLS[-1]["box"].tolist() == [[14, 11, 16, 13]]  # the core's voxels are closer than two to the centre
    assert torch.equal(answer > 0, Clickable()(x) > 0)


def test_an_image_without_an_object_gets_no_prompts():
    x = torch.zeros(1, 1, 16, 16)
    answer = SelfPrompting()(x, Clickable())
    assert torch.equal(answer, Clickable()(x)) and all(call["points"] is None for call in CALLS)


@pytest.mark.parametrize("n_points", [1, 3])
def test_the_rounds_are_those_of_plain_code(n_points):
    x, _ = discs((40, 40), [(10, 10), (29, 24)])
    expected = rounds_of_points(Clickable(), x, rounds=2, n_points=n_points)
    torch.testing.assert_close(SelfPrompting(rounds=2, n_points=n_points)(x, Clickable()), expected, rtol=0, atol=0)


def test_prompts_are_in_each_windows_own_frame():
    x, truth = discs((16, 96), [(8, 8), (7, 72)])
    answer = SelfPrompting(inferer=SlidingWindowInferer(16, 4, 0))(x, Clickable())
    assert dice(answer, truth) > 0.99
    clicks = torch.cat([call["points"].view(-1, 2) for call in CALLS if call["points"] is not None])
    assert clicks.tolist() == [[8, 8]] * 2 + [[7, 8]] * 2 and [call["n"] for call in CALLS if call["points"] is None] == [4, 2]


@pytest.mark.parametrize("inner", [SimpleInferer(), SlidingWindowInferer(16, 1, 0.5), AdaptiveInferer(16, method=Source())])
@pytest.mark.parametrize("strips", [False, True])
def test_meta_data_stay_as_with_the_network_alone(inner, strips):
    class Strips(Clickable):
        def forward(self, image, **prompts):
            answer = super().forward(image, **prompts)
            return answer.as_tensor() if strips and isinstance(answer, MetaTensor) else answer

        forward.__signature__ = __import__("inspect").signature(Clickable.forward)

    net = Strips()
    x = MetaTensor(scan()[0], affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    alone = inner(x, net)
    prompted = SelfPrompting(inferer=inner)(x, net)
    assert type(prompted) is type(alone) and prompted.shape == alone.shape
    if isinstance(alone, MetaTensor):
        assert torch.equal(prompted.affine, alone.affine)


def test_the_source_is_untouched():
    net, x = Clickable(), scan()[0]
    before, rng = state(net), torch.get_rng_state()
    for inner in (None, AdaptiveInferer(method=Tent(), head="sigmoid")):
        SelfPrompting(inferer=inner)(x, net)
    assert same(before, state(net)) and torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize("statistics", ["window", "volume"])
def test_adaptation_of_the_encoder_composes_with_the_rounds(statistics):
    """Another scanner hides the object from the source. Present statistics show its core, and a click the rest."""
    x, truth = scan()
    net = Clickable()
    net.features[1].running_mean.fill_(0.0)
    other = 0.3 * x - 2
    spread = float(x.var(correction=0) + 1e-5) ** 0.5
    with torch.no_grad():  # features are x again for the statistics of the source, which are this image's
        net.features[1].running_mean.copy_(x.mean())
        net.features[1].running_var.copy_(x.var(correction=0))
        net.features[1].weight.fill_(spread)
        net.features[1].bias.copy_(x.mean())
    assert dice(SelfPrompting()(x, net), truth) > 0.99
    assert dice(SelfPrompting()(other, net), truth) == 0
    inferer = AdaptiveInferer(method=Statistics(statistics=statistics, blend=1.0), head="sigmoid")
    assert dice(inferer(other, net), truth) < 0.4
    assert dice(SelfPrompting(inferer=inferer)(other, net), truth) > 0.99
    assert [case.reason for case in inferer.cases] == [None, None] and inferer.cases[-1].network == "PromptedNetwork"


def test_statistics_are_pooled_over_all_windows():
    x = discs((16, 64), [(8, 8)])[0] + discs((16, 64), [(8, 40)], radius=3.0)[0]
    net = Clickable()
    seen = []

    class Watch(Statistics):
        def predict(self, shadow, windows):
            seen.append([layer.pooled[0][0].clone() for layer in shadow.module.modules() if getattr(layer, "pooled", None)])
            return super().predict(shadow, windows)

    inferer = AdaptiveInferer(16, 1, 0, method=Watch(statistics="volume", blend=1.0), head="sigmoid", budget=None)
    SelfPrompting(inferer=inferer)(x, net)
    usable = torch.cat([x[..., :16], x[..., 32:48]])
    assert inferer.cases[-1].n_windows == 2
    torch.testing.assert_close(seen[0][0], usable.mean().view(1))


def test_a_step_of_tent_goes_down_the_entropy_of_the_last_round():
    x, _ = scan()
    net = Clickable(norm=False)
    expected, entropy = tent_step_of_the_last_round(net, x, rounds=2, lr=0.1)
    inferer = AdaptiveInferer(method=Tent(optimizer=SGD(lr=0.1, momentum=0)), head="sigmoid")
    answer = SelfPrompting(rounds=2, inferer=inferer)(x, net)
    torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-5)
    assert inferer.cases[-1].steps[0].losses["loss"] == pytest.approx(entropy, rel=1e-5)
    assert inferer.cases[-1].weight_distance > 0


def test_a_continual_stream_goes_on_and_an_inferer_can_be_pickled():
    inferer = AdaptiveInferer(method=GraTa(), head="sigmoid", reset="never")
    prompting, net = SelfPrompting(inferer=inferer), Clickable()
    for peak in (1.0, 1.2):
        prompting(scan(peak=peak)[0], net)
    first, second = inferer.cases
    assert first.reason is second.reason is None and second.weight_distance != first.weight_distance
    assert prompting.prompted(net) is prompting.prompted(net) is not prompting.prompted(Clickable())
    copied = pickle.loads(pickle.dumps(SelfPrompting(rounds=2)))
    assert copied.how == PromptRounds(rounds=2) and copied._last is None


def test_each_object_has_a_loop_of_its_own():
    x, truth = scan(peak=1.0)
    net = Clickable(objects=2)  # the second object needs a brightness of 1.3, and is not there
    answer = SelfPrompting()(x, net)
    assert dice(answer[:, :1], truth) > 0.99 and torch.equal(answer[:, 1:], net(x)[:, 1:])
    x, truth = scan(peak=2.0)
    CALLS.clear()
    both = SelfPrompting()(x, net)
    assert both.shape == (1, 2, 32, 28) and CALLS[1]["points"].shape == (2, 1, 2)
    assert CALLS[1]["labels"].max() == 1 and min(dice(both[:, k : k + 1], truth) for k in (0, 1)) > 0.99


def test_keywords_axes_and_placement_are_choices():
    class Sam(Clickable):
        def forward(self, image, point_xy=None, point_marks=None, corners=None):
            asked = None if point_xy is None else point_xy.flip(-1)
            assert corners is None or (corners[:, :2] <= corners[:, 2:]).all()
            return super().forward(image, points=asked, labels=point_marks)

    x, truth = scan()
    names = PromptArguments(points="point_xy", labels="point_marks", box="corners", reversed_axes=True)
    for prompt in ("points", "points+box"):
        for placement in ("inside", "certain"):
            answer = SelfPrompting(prompt=prompt, placement=placement, arguments=names)(x, Sam())
            assert dice(answer, truth) > 0.99


def test_an_error_decoder_corrects_the_answer_and_places_the_points():
    """It says that the network is wrong in a corner, and right elsewhere."""

    def corner(window, p):
        error = torch.zeros_like(p)
        error[..., :2, :2] = 0.9
        error[..., 0, 1] = 1.0
        return error

    x, _ = scan()
    net = Clickable()
    net(x)
    answer = SelfPrompting(rounds=1, prompt="points+mask", error_decoder=corner)(x, net)
    click = CALLS[-1]
    assert click["points"].tolist() == [[[0, 1]]] and click["labels"].tolist() == [[1]]  # corrected, it is an object
    core = net(x).sigmoid()
    expected = core * (1 - corner(x, core)) + (1 - core) * corner(x, core)
    torch.testing.assert_close(click["mask"].sigmoid(), expected, atol=1e-5, rtol=0)
    assert answer.shape == x.shape


def test_no_method_moves_an_error_decoder():
    prompted = PromptedNetwork(Clickable(), error_decoder=ErrorDecoder(1, 2))
    assert {name.split(".")[0] for name, _ in prompted.named_parameters()} == {"network"}


# --- refusals -------------------------------------------------------------------------------------------------------------------


def test_what_takes_no_prompts_is_refused_in_words():
    plain = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="Conv2d takes no prompts by the keyword 'points' or 'labels'; it takes input"):
        SelfPrompting()(scan()[0], plain)
    with pytest.warns(UserWarning, match="without adaptation.*layers cannot be seen.*turn them round"):
        answer = AdaptiveInferer(method=Tent(), inferer=SelfPrompting())(scan()[0], Clickable())
    assert torch.equal(answer, SelfPrompting()(scan()[0], Clickable()))
    with pytest.raises(ValueError, match="points is given already"):
        SelfPrompting()(scan()[0], Clickable(), points=torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="no prompts by the keyword"):
        SelfPrompting(inferer=AdaptiveInferer(8))(torch.zeros(1, 1, 8, 8, 8), network())


@pytest.mark.parametrize(
    "choice, words",
    [
        ({"rounds": -1}, "rounds is 0 or more"),
        ({"n_points": 0}, "n_points 1 or more"),
        ({"prompt": "scribble"}, "prompt is one of points, box, mask"),
        ({"placement": "border"}, "placement must be"),
    ],
)
def test_choices_out_of_range_are_refused(choice, words):
    with pytest.raises(ValueError, match=words):
        SelfPrompting(**choice)


def test_an_answer_of_another_shape_is_refused():
    class Odd(Clickable):
        def forward(self, image, points=None, labels=None):
            answer = super().forward(image, points, labels)
            return answer if points is None else answer[..., ::2]

    with pytest.raises(ValueError, match=r"answered prompts for 1 objects by \(1, 1, 32, 14\)"):
        SelfPrompting()(scan()[0], Odd())


# --- VISTA3D --------------------------------------------------------------------------------------------------------------------


def vista():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = SegResNetDS2(in_channels=1, blocks_down=(1, 1), norm="instance", out_channels=8, init_filters=8, dsdepth=1)
        points = PointMappingSAM(feature_size=8, n_classes=32, last_supported=28)
        return VISTA3D(encoder, ClassMappingClassify(n_classes=32, feature_size=8), points).eval()


CLASSES = torch.tensor([[1], [24]])  # the second one's points have labels of their own


def vista_scan():
    return torch.randn(1, 1, 16, 16, 24, generator=torch.Generator().manual_seed(0))


def test_vista3d_is_asked_by_its_own_keywords(monkeypatch):
    net, x = vista(), vista_scan()
    asked = []
    plain = net.point_head.forward
    monkeypatch.setattr(net.point_head, "forward", lambda *a, **k: (asked.append((a, k)), plain(*a, **k))[1])
    with torch.no_grad():
        first = net(x, class_vector=CLASSES, transpose=True)
        answer = SelfPrompting(rounds=1, n_points=2)(x, net, class_vector=CLASSES)
        (_, points, labels), given = asked[0]
        expected = net(x, point_coords=points, point_labels=labels, prompt_class=CLASSES, transpose=True)
    assert (first > 0).flatten(2).any(2).all() and answer.shape == first.shape == (1, 2, 16, 16, 24)
    assert torch.equal(given["class_vector"], CLASSES) and labels.tolist() == [[1, 1], [3, 3]]
    for k in (0, 1):
        assert all(first[(0, k, *map(int, point))] > 0 for point in points[k])
    torch.testing.assert_close(answer, expected)


def test_vista3d_keeps_the_first_answer_of_a_class_that_it_does_not_find():
    net, x = vista(), vista_scan()
    prompts = Prompts(objects=[1], points=torch.ones(1, 1, 3), labels=torch.ones(1, 1, dtype=torch.long))
    asked = PromptedNetwork(net).arguments.with_prompts({"class_vector": CLASSES, "transpose": True}, prompts, x)
    assert "class_vector" not in asked and asked["prompt_class"].tolist() == [[24]] and asked["point_labels"].tolist() == [[3]]


@pytest.mark.parametrize("method", [Tent(), GraTa()])
def test_vista3d_adapts_and_prompts_itself_window_by_window(method):
    net, x = vista(), vista_scan()
    before = state(net)
    inferer = AdaptiveInferer((16, 16, 16), 2, 0.5, method=method, head="sigmoid")
    with torch.no_grad():
        answer = SelfPrompting(rounds=1, inferer=inferer)(x, net, class_vector=CLASSES)
    case = inferer.cases[-1]
    assert answer.shape == (1, 2, 16, 16, 24) and case.reason is None and case.weight_distance > 0 and same(before, state(net))


@pytest.mark.parametrize("inferer", [SlidingWindowInferer(16, with_coord=True), ClassInferer(16, 1)])
def test_vista3d_prompts_itself_in_the_inferers_of_bundles(inferer):
    """They tell the network where a window is, or read its attributes."""
    net, x = vista(), vista_scan()
    given = {} if isinstance(inferer, ClassInferer) else {"class_vector": torch.tensor([[1], [28]])}
    with torch.no_grad():
        answer = SelfPrompting(rounds=1, inferer=inferer)(x, net, **given)
        plain = SlidingWindowInferer(16)(x, PromptedNetwork(net, PromptRounds(rounds=1)), class_vector=torch.tensor([[1], [28]]))
    torch.testing.assert_close(answer, plain)


def test_vista3d_without_a_class_or_with_a_mask_is_refused_in_words():
    with pytest.raises(ValueError, match="give class_vector="):
        SelfPrompting()(vista_scan(), vista())
    with pytest.raises(ValueError, match="use prompt='points'"):
        SelfPrompting(prompt="points+mask")(vista_scan(), vista(), class_vector=CLASSES)
