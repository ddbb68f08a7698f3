"""Calibration of a network with images in memory: windows are cut with their labels, and whatever does not fit is refused."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer, Careful, Statistics
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import network_digest
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.methods.careful_candidates import QUICK_VIEWS
from monai_tta.preparation import collect_cases as module
from monai_tta.preparation.calibrate_network import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.window_pairs import paired_windows, preserved_by
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.quality_predictor import QualityPredictor
from tests.small import image, network, same, state

QUICK = Careful(candidates=(Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume")))
SETTINGS = CalibrationSettings(size=12, harm=0.1, budget=2, method=QUICK)


def labelled(n=6, dims=2, size=16):
    """Images of noise, and labels where they are bright: class numbers 0, 1 and 2."""
    images = [image(dims, size, seed=k)[0] for k in range(n)]
    return images, [(x > 1).float() + (x > 3).float() for x in images]


def test_of_several_networks_each_answers_its_own_images(monkeypatch):
    first, second = network(dims=2), network(dims=2)
    second[0].weight.data *= 1.1
    images, labels = labelled(6)
    asked = []
    tried = module.run_candidates

    def note(calibration, group, source, *args):
        asked.append((group, source))
        return tried(calibration, group, source, *args)

    monkeypatch.setattr(module, "run_candidates", note)
    calibration = module.CalibrationSet("a")
    answering = [first, second, second, first, first, second]
    how = {"head": "softmax", "inferer": SlidingWindowInferer(8), "settings": SETTINGS, "answering": answering}
    list(module.collect_cases(calibration, first, images, labels, **how))
    assert [source for _, source in asked] == [answering[group] for group, _ in asked] and len(asked) == 12 + 6
    assert calibration.network.split() == [network_digest(first), network_digest(second)]
    asked.clear()
    labels[2] = torch.zeros_like(labels[2])  # an image that is left out takes its network with it
    how["settings"] = replace(SETTINGS, size=10)
    list(module.collect_cases(module.CalibrationSet("b"), first, images, labels, **how))
    assert [source for _, source in asked[:5]] == [first, second, first, first, second]


class TestPublicFunction:
    def test_a_predictor_is_made_saved_and_used(self, tmp_path):
        net = network(dims=2)
        before = state(net)
        images, labels = labelled()
        done = []
        predictor = calibrate_network(
            net, images, labels, roi_size=8, settings=SETTINGS, name="mine", progress=lambda *numbers: done.append(numbers)
        )
        assert done == [(k, 12) for k in range(1, 13)] and same(before, state(net))
        assert predictor.about["networks"] == ["mine"] and predictor.about["cases"] == 12
        file = tmp_path / "gain_predictor.npz"
        predictor.save(file)
        assert GainPredictor.load(file).about == predictor.about
        inferer = AdaptiveInferer(8, method=replace(QUICK, predictor=str(file)))
        inferer(images[0][None], net)
        (case,) = inferer.cases
        assert case.reason is None or "gain" in case.reason, "its predictor decided"

    def test_the_quick_way_is_remembered_and_is_for_running_statistics(self, tmp_path):
        net = network(dims=2)
        images, labels = labelled()
        quality = tmp_path / "quality.npz"
        settings = CalibrationSettings(size=12, harm=0.1, budget=2, quick=True)
        predictor = calibrate_network(net, images, labels, roi_size=8, settings=settings, quality=quality)
        assert predictor.quick and predictor.views == settings.views == QUICK_VIEWS == QualityPredictor.load(quality).views
        assert not calibrate_network(net, images, labels, settings=SETTINGS).quick
        with pytest.raises(ValueError, match="keeps none"):
            calibrate_network(network("instance", dims=2), images, labels, settings=settings)

    def test_the_same_seed_makes_the_same_predictor(self):
        images, labels = labelled()
        some, again = (calibrate_network(network(dims=2), images, labels, settings=SETTINGS) for _ in range(2))
        other = calibrate_network(network(dims=2), images, labels, settings=replace(SETTINGS, seed=1))
        assert some.about == again.about and some.about != other.about

    def test_a_network_in_training_mode_and_images_with_meta_data_are_as_good(self):
        images, labels = labelled()
        net = network(dims=2).train()
        before = state(net)
        found = calibrate_network(net, [MetaTensor(x) for x in images], [MetaTensor(y) for y in labels], settings=SETTINGS)
        assert same(before, state(net)) and net.training
        assert found.about == calibrate_network(network(dims=2), images, labels, settings=SETTINGS).about

    def test_a_network_whose_layers_are_hidden_is_refused(self):
        images, labels = labelled()
        with pytest.raises(CannotAdapt, match="callable"):
            calibrate_network(lambda x: x, images, labels)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x, y: (x[:4], y[:4]), "found 4 labelled images; at least 5"),
            (lambda x, y: (x, y[:5]), "found 6 images and 5 labels"),
            (lambda x, y: (x, [*y[:5], y[5][:, :8]]), r"image 5 is \(1, 16, 16\) and its label \(1, 8, 16\)"),
            (lambda x, y: (x, [label[0] for label in y]), "a channel axis first"),
            (lambda x, y: ([torch.cat([a, a]) for a in x], y), r"takes 1 channel\(s\), found 2"),
            (lambda x, y: (x, [*y[:5], y[5] + 2]), "label 5: the labels have .* values up to 4, and the network segments 2"),
            (lambda x, y: (x, [label * 0 for label in y]), "0 of 6 labelled images can be used; at least 5"),
            (lambda x, y: ([torch.zeros_like(a) for a in x], y), "0 of 6 labelled images can be used; at least 5"),
        ],
    )
    def test_images_and_labels_that_do_not_fit_are_refused(self, change, message):
        images, labels = change(*labelled())
        with pytest.raises(ValueError, match=message):
            calibrate_network(network(dims=2), images, labels, settings=SETTINGS)

    def test_the_head_is_told_by_the_number_of_channels(self):
        images, labels = labelled()
        one = nn.Sequential(*network(dims=2, head="sigmoid"), nn.Conv2d(2, 1, 1)).eval()
        binary = [label.clamp(max=1) for label in labels]
        assert calibrate_network(one, images, binary, settings=SETTINGS).about["cases"] == 12
        with pytest.raises(ValueError, match="values up to 2, and the network segments 1"):
            calibrate_network(one, images, labels, settings=SETTINGS)
        with pytest.raises(ValueError, match="head must be"):
            calibrate_network(one, images, binary, head="tanh", settings=SETTINGS)


def test_settings_that_can_show_nothing_are_refused():
    for size, harm, least in ((40, 0.02, 49), (32, 0.03, 33), (8, 0.1, 9)):
        with pytest.raises(ValueError, match=f"at least {least} are needed"):
            CalibrationSettings(size=size, harm=harm)
        CalibrationSettings(size=least, harm=harm)
    with pytest.raises(ValueError, match="between 0 and 1"):
        CalibrationSettings(harm=3)


@pytest.mark.parametrize("whole", [True, False])
def test_windows_are_cut_with_their_labels(whole):
    x = image(2, size=20)
    inferer = SimpleInferer() if whole else SlidingWindowInferer(8, 3, 0.5)
    windows, labels = paired_windows(network(dims=2), inferer, x, 2 * x + 1, "softmax", 2)
    assert len(windows) == (1 if whole else 2) and torch.equal(labels, 2 * windows + 1)
    assert whole or not torch.equal(windows[0], windows[1])


def test_an_image_without_anything_to_adapt_on_has_no_windows():
    flat = torch.zeros(1, 1, 8, 8)
    assert paired_windows(network(dims=2), SimpleInferer(), flat, flat, "softmax", 2) is None


@given(st.integers(0, 3))
@settings(deadline=None, max_examples=4)
def test_labels_of_all_kinds_become_structures(seed):
    numbers = torch.randint(0, 3, (1, 1, 5, 5), generator=torch.Generator().manual_seed(seed))
    numbers[0, 0, 0, 0] = 2
    channels = torch.cat([numbers == k for k in range(3)], 1)
    for label in (numbers.float(), channels.float(), channels[:, 1:].float()):
        assert torch.equal(label_structures(label, 3, "softmax"), channels[:, 1:])
    assert torch.equal(label_structures(channels[:, 1:].float(), 2, "sigmoid"), channels[:, 1:])
    with pytest.raises(ValueError, match="values up to 2"):
        label_structures(numbers.float(), 2, "softmax")


def test_what_normalisation_preserves_is_seen_from_the_images():
    z_scored = [torch.randn(1, 50, 50, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    assert preserved_by(z_scored) == "moments" and preserved_by([*z_scored, torch.rand(1, 50, 50)]) == "range"
