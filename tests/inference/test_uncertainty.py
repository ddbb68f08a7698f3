"""The map of an answer's uncertainty: on the answer's grid, from the network that answered, and without a trace in the answer."""

import warnings

import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer

from monai_tta import (
    VPTTA,
    AdaptiveInferer,
    BlendAverage,
    Careful,
    CoTTA,
    GraTa,
    Source,
    Statistics,
    ViewAverage,
    Views,
)
from monai_tta.core.objectives import probabilities
from monai_tta.core.record import Case
from monai_tta.core.uncertainty import mutual_information
from monai_tta.guards import VolumeChange
from tests.small import image, network, quality_stub, same, saved_stump, state

CANDIDATES = (Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume"))
CAREFUL = Careful(predictor=saved_stump("certain"), candidates=CANDIDATES)


def quiet(inferer, x, net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return inferer(x, net)


def by_hand(net, x, head="softmax"):
    """Of one window that is the whole image."""
    poses = Views().of(x.shape[2:])
    with torch.no_grad():
        answers = [pose.undo(probabilities(net(pose.apply(x)), head)) for pose in poses]
    return mutual_information([(1 / len(poses), p) for p in answers], head)[0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "method, reset, kind",
    [
        (GraTa(), "never", "batch"),
        (GraTa(), "volume", "instance"),
        (Source(), "volume", "group"),
        (ViewAverage(), "volume", "batch"),
        (BlendAverage(blends=(0.2, 0.7)), "volume", "batch"),
        (VPTTA(), "never", "batch"),
        (CoTTA(), "never", "batch"),
        (CAREFUL, "volume", "batch"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_no_bit_of_any_answer_changes(method, reset, kind, head, dims):
    net = network(kind, dims=dims, head=head)
    images = [image(dims, 12, seed=k) for k in range(2)]
    before = state(net)
    found = []
    for uncertainty in (None, Views()):
        inferer = AdaptiveInferer(8, method=method, reset=reset, uncertainty=uncertainty)
        generator = torch.get_rng_state()
        found.append([quiet(inferer, x, net) for x in images])
        assert torch.equal(generator, torch.get_rng_state()) and same(before, state(net))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)), "bit for bit"
    case = inferer.cases[-1]
    (found_map,) = inferer.uncertainty_maps
    assert found_map.shape == (1, *images[0].shape[2:]) and found_map.dtype == torch.float32
    assert 0 <= float(found_map.min()) < float(found_map.max()) <= case.uncertainty.largest
    assert case.uncertainty_note is None
    assert Case.from_json(case.to_json()) == case


def test_it_is_that_of_the_network_that_answered():
    net = network(dims=2)
    x = image(2, 8)
    inferer = AdaptiveInferer(8, method=Statistics(blend=1.0), uncertainty=Views())
    inferer(x, net)
    assert inferer.cases[-1].adapted
    adapted = inferer.uncertainty_maps[0]
    refused = AdaptiveInferer(8, method=Statistics(blend=1.0), uncertainty=Views(), guard=lambda *_: "never good enough")
    quiet(refused, x, net)
    assert not refused.cases[-1].adapted and torch.allclose(refused.uncertainty_maps[0], by_hand(net, x), atol=1e-6)
    assert not torch.allclose(adapted, refused.uncertainty_maps[0], atol=1e-3)
    with torch.no_grad():
        shadow = Statistics(blend=1.0).begin(net, "softmax")
        expected = by_hand(shadow, x)
    assert torch.allclose(adapted, expected, atol=1e-6)


def test_an_image_that_nothing_can_adapt_to_gets_the_sources():
    net = network(dims=2)
    inferer = AdaptiveInferer(8, method=GraTa(), uncertainty=Views(), guard=VolumeChange(0.5))
    x = torch.zeros(1, 1, 8, 8)
    quiet(inferer, x, net)
    assert inferer.cases[-1].reason and torch.allclose(inferer.uncertainty_maps[0], by_hand(net, x), atol=1e-6)


def test_it_is_put_together_as_the_answer_is():
    """The mean of windows by MONAI's own weights, at the place where each window was cut."""
    net = network(dims=2)
    x = image(2, 20)
    monais = SlidingWindowInferer(8, 2, 0.5, mode="gaussian")
    inferer = AdaptiveInferer(method=Source(), inferer=monais, uncertainty=Views())
    quiet(inferer, x, net)

    def of_windows(windows):
        return torch.stack([by_hand(net, window[None]) for window in windows])

    assert torch.allclose(inferer.uncertainty_maps[0], monais(x, of_windows)[0], atol=1e-6)


def test_each_image_of_a_batch_has_its_own_and_a_call_drops_those_of_the_last():
    net = network(dims=2)
    x = image(2, 12, n=3)
    inferer = AdaptiveInferer(8, method=Source(), uncertainty=Views())
    inferer(x, net)
    maps = inferer.uncertainty_maps
    assert len(maps) == 3
    for k in range(3):
        inferer(x[k : k + 1], net)
        assert len(inferer.uncertainty_maps) == 1 and torch.equal(inferer.uncertainty_maps[0], maps[k])


def test_a_quality_predictor_is_another_matter_and_its_temperature_stays_out():
    """Tempered, a map finds wrong voxels worse (docs/uncertainty.md)."""
    net = network(dims=2)
    found = []
    for quality in (None, quality_stub(net, temperature=2.0)):
        inferer = AdaptiveInferer(8, method=Source(), uncertainty=Views(), quality=quality)
        quiet(inferer, image(2, 8), net)
        found.append(inferer.uncertainty_maps[0])
    assert torch.equal(*found) and inferer.cases[-1].quality is not None


@pytest.mark.parametrize("inner", [SimpleInferer(), SlidingWindowInferer(8), SliceInferer(spatial_dim=2, roi_size=(8, 8))])
def test_monais_inferers_that_average(inner):
    net = network(dims=2 if isinstance(inner, SliceInferer) else 3)
    inferer = AdaptiveInferer(method=Source(), inferer=inner, uncertainty=Views())
    answer = quiet(inferer, image(3, 8), net)
    assert inferer.cases[-1].uncertainty_note is None and inferer.uncertainty_maps[0].shape[1:] == answer.shape[2:]


class TestRefused:
    def test_an_inferer_that_may_do_more_than_average(self):
        class Own(SlidingWindowInferer):
            def __call__(self, *args, **kwargs):
                return super().__call__(*args, **kwargs).softmax(1)

        with pytest.raises(ValueError, match="Own may do more with answers"):
            AdaptiveInferer(inferer=Own(8), uncertainty=Views())
        assert AdaptiveInferer(inferer=Own(8)).inferer is not None

    def test_a_network_for_each_window(self):
        with pytest.raises(ValueError, match="learn='volume'"):
            AdaptiveInferer(8, learn="window", uncertainty=Views())

    @pytest.mark.parametrize(
        "net, options, said",
        [
            (torch.jit.script(network(dims=2)[0]), {"head": "softmax"}, "cannot be seen|TorchScript"),
            (network(dims=2), {"uncertainty": Views(axes=(), turns=False)}, "a single answer"),
        ],
        ids=["TorchScript", "one view"],
    )
    def test_it_is_said_once_and_on_record_and_the_answer_is_there(self, net, options, said):
        inferer = AdaptiveInferer(8, method=Source(), **{"uncertainty": Views()} | options)
        with pytest.warns(UserWarning, match=f"there is no map of the uncertainty: .*({said})"):
            first = inferer(image(2, 12), net)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(inferer(image(2, 12), net), first)
        case = inferer.cases[-1]
        assert inferer.uncertainty_maps == (None,) and case.uncertainty is None and case.uncertainty_note

    def test_a_value_that_there_is_not(self):
        with pytest.raises(ValueError, match="uncertainty is a Views"):
            AdaptiveInferer(8, uncertainty=True)
