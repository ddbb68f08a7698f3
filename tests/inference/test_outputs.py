"""Networks of several outputs: which one is the main one, what users get, and the same through every stitcher."""

from collections import namedtuple

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import BasicUNetPlusPlus
from torch import nn

from monai_tta import AdaptiveInferer, Careful, GraTa, Source, Statistics, ViewAverage
from monai_tta.compute.containers import NoMainOutput, at_place, main_output, place_of_main
from tests.small import BLENDED, FAST, TENT, around, image, network, saved_stump

CAREFUL = Careful(predictor=saved_stump("hopeful for outputs"), candidates=BLENDED)
Answer = namedtuple("Answer", "features mask")
MAIN, OTHER, SMALL = torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8), torch.ones(1, 2, 4, 4)


@pytest.mark.parametrize(
    ("outputs", "name", "place"),
    [
        (MAIN, None, ()),
        (MAIN, 0, ()),
        ((MAIN, OTHER), None, (0,)),
        ([MAIN], None, (0,)),
        ((MAIN, None), None, (0,)),
        ((None, MAIN), None, (1,)),
        ((SMALL, MAIN, OTHER), None, (1,)),  # the first of the windows' size
        ((SMALL, SMALL), None, (0,)),
        ((OTHER, MAIN), 1, (1,)),
        ((OTHER, MAIN), -1, (1,)),
        ((OTHER, MAIN), "1", (1,)),
        (((MAIN, OTHER), SMALL), None, (0, 0)),
        ((SMALL, [MAIN, OTHER]), None, (1, 0)),
        (Answer(SMALL, MAIN), None, (1,)),
        (Answer(OTHER, MAIN), "mask", (1,)),
        ({"aux": OTHER, "out": MAIN}, None, ("out",)),
        ({"aux": OTHER, "logits": MAIN, "features": SMALL}, None, ("logits",)),
        ({"whatever": MAIN}, None, ("whatever",)),
        ({"features": SMALL, "x": MAIN}, None, ("x",)),
        ({"liver": OTHER, "tumour": MAIN}, "tumour", ("tumour",)),
        ({0: OTHER, 1: MAIN}, 1, (1,)),
        ({"out": [MAIN, SMALL], "loss": 0.3}, None, ("out", 0)),
    ],
)
def test_which_output_is_the_main_one(outputs, name, place):
    assert place_of_main(outputs, name=name, spatial=(8, 8)) == place
    assert at_place(outputs, place) is MAIN or at_place(outputs, place) is SMALL
    if name is None and place:
        assert main_output(outputs, spatial=(8, 8)) is at_place(outputs, place)


@pytest.mark.parametrize(
    ("outputs", "name", "words"),
    [
        ({"liver": MAIN, "tumour": OTHER}, None, "'liver', 'tumour'.*main_output="),
        ({"out": MAIN, "logits": OTHER}, None, "which of these is the main one"),
        ({"out": MAIN}, "mask", "none of these is called 'mask'"),
        ((MAIN, OTHER), 2, "2 outputs, numbered from 0"),
        (Answer(MAIN, OTHER), "logits", "'features', 'mask'"),
        (MAIN, "logits", "returns one output"),
    ],
)
def test_what_cannot_be_told_is_said(outputs, name, words):
    with pytest.raises(NoMainOutput, match=words):
        place_of_main(outputs, name=name, spatial=(8, 8))


def first(self, x):
    return self.net(x), self.net(x)[:, :1] * 0.5


def coarse_first(self, x):
    return nn.functional.avg_pool3d(self.net(x), 2), self.net(x)


def in_a_dictionary(self, x):
    return {"aux": self.net(x)[:, :1], "out": self.net(x)}


def as_named_tuple(self, x):
    return Answer(self.net(x)[:, :1], self.net(x))


def nested(self, x):
    return (self.net(x), [self.net(x)[:, :1], None])


def with_nothing(self, x):
    return self.net(x), None


FORMS = {
    first: None,
    coarse_first: None,
    in_a_dictionary: None,
    as_named_tuple: "mask",
    nested: None,
    with_nothing: None,
}


@pytest.mark.parametrize("work", FORMS, ids=lambda work: work.__name__)
@pytest.mark.parametrize("method", [Source(), TENT, Statistics(statistics="volume"), ViewAverage()], ids=repr)
def test_the_main_output_alone_is_what_the_network_without_others_answers(work, method):
    x = image()
    alone = AdaptiveInferer(8, 2, 0.5, method=method)
    several = AdaptiveInferer(8, 2, 0.5, method=method, main_output=FORMS[work], main_only=True)
    with torch.no_grad():
        answers = alone(x, network()), several(x, around(work))
    assert several.cases[-1].reason == alone.cases[-1].reason
    torch.testing.assert_close(*answers)


@pytest.mark.parametrize("around_it", [SimpleInferer(), SlidingWindowInferer(8, 2, 0.5)])
@pytest.mark.parametrize("work", [first, in_a_dictionary, as_named_tuple], ids=lambda work: work.__name__)
@pytest.mark.parametrize("method", [TENT, ViewAverage(), CAREFUL], ids=lambda method: type(method).__name__)
def test_the_container_stays_unless_told_otherwise(work, around_it, method):
    net, x = around(work), image(size=8)
    made = AdaptiveInferer(inferer=around_it, method=method, main_output=FORMS[work])
    with torch.no_grad():
        adapted, plain = made(x, net), around_it(x, net)
    assert made.cases[-1].reason is None and type(adapted) is type(plain)
    keys = list(plain) if isinstance(plain, dict) else range(len(plain))
    assert [adapted[key].shape for key in keys] == [plain[key].shape for key in keys]
    with torch.no_grad():
        alone = AdaptiveInferer(inferer=around_it, method=method)(x, network())
    main = {first: 0, in_a_dictionary: "out", as_named_tuple: 1}[work]
    torch.testing.assert_close(adapted[main], alone)


def test_a_dictionary_of_classes_is_not_adapted_until_one_is_named():
    net, x = around(lambda self, x: {"liver": self.net(x)[:, :1], "tumour": self.net(x)[:, 1:2]}), image()
    made = AdaptiveInferer(8, 2, 0.5, method=TENT)
    with torch.no_grad(), pytest.warns(UserWarning, match="'liver', 'tumour'.*name it"):
        answer = made(x, net)
    plain = SlidingWindowInferer(8, 2, 0.5)(x, net)
    assert all(torch.equal(answer[key], plain[key].detach()) for key in plain)
    named = AdaptiveInferer(8, 2, 0.5, method=TENT, main_output="tumour")
    with torch.no_grad():
        named(x, net)
    assert named.cases[-1].adapted and named.cases[-1].head == "sigmoid"
    with torch.no_grad(), pytest.raises(ValueError, match="name it"):
        AdaptiveInferer(8, 2, 0.5, method=TENT, main_only=True)(x, net)


def test_a_named_output_moves_the_network():
    """The loss is of the named output: another one gives another step."""
    net, x = around(lambda self, x: (self.net(x), self.net(x) * 3)), image()
    distances = []
    for name in (0, 1):
        made = AdaptiveInferer(8, 2, 0.5, method=GraTa(optimizer=FAST), main_output=name, head="softmax")
        with torch.no_grad():
            made(x, net)
        distances.append(made.cases[-1].steps[0].losses)
    assert distances[0] != distances[1]


def test_buffered_windows_put_the_main_output_together():
    net, x = around(as_named_tuple), image()
    made = AdaptiveInferer(8, 1, 0.5, method=TENT, main_output="mask", buffer_steps=1)
    with torch.no_grad():
        answer = made(x, net)
        expected = AdaptiveInferer(8, 1, 0.5, method=TENT)(x, network())
    torch.testing.assert_close(answer, expected)


def test_the_last_output_of_a_nested_unet_is_its_main_one():
    torch.manual_seed(0)
    net = BasicUNetPlusPlus(3, 1, 2, features=(4, 4, 4, 4, 4, 4), deep_supervision=True, norm="batch").eval()
    x = image(size=16)
    made = AdaptiveInferer(method=Source(), main_only=True)
    with torch.no_grad():
        assert torch.equal(made(x, net), net(x)[-1])


def test_a_stack_of_outputs_is_refused():
    net = around(lambda self, x: torch.stack([self.net(x)] * 2, 1))
    with torch.no_grad(), pytest.raises(TypeError, match=r"answered a tensor of shape \(1, 2, 3"):
        AdaptiveInferer(method=TENT)(image(size=8), net)


@pytest.mark.parametrize("choice", [{"main_output": 1.5}, {"main_output": True}, {"answers": "numbers"}])
def test_choices_that_there_are_not_are_refused(choice):
    with pytest.raises(ValueError, match=next(iter(choice))):
        AdaptiveInferer(**choice)
