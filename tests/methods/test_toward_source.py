"""`TowardSource`: its figures come from calibration, and `Careful` tries it where they are there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_tta import Careful, SourceLook, TowardSource
from monai_tta.core.source_look import backgrounds_of, look_of, mean_look
from monai_tta.methods.careful_candidates import usual_candidates
from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.preparation.calibrate_network import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.predictor_files import UNIVERSAL, load_predictor
from tests.small import image, network, run, stump

LOOK = SourceLook((0.0,), (1.0,), ((1.0,) * 6,))


def saved(folder, look, **choices):
    file = folder / "gain_predictor.npz"
    replace(stump(**choices), look=look).save(file)
    return file


def test_figures_come_from_a_predictors_file(tmp_path):
    net, x = network("instance"), image()
    file = saved(tmp_path, LOOK)
    assert GainPredictor.load(file).look == LOOK
    by_file, case = run(net, TowardSource(change="moments", figures=str(file)), x)
    by_value, _ = run(net, TowardSource(change="moments", look=LOOK), x)
    assert case.reason is None and torch.equal(by_file, by_value)
    assert "TowardSource(change='moments'" in case.method and str(tmp_path) not in case.method and "SourceLook" not in case.method
    beside = TowardSource(change="moments").for_checkpoint(tmp_path / "model.pt")
    assert beside.figures == str(file) and beside.files == (Path(file),)


@pytest.mark.parametrize(
    "look, channels, why",
    [
        (None, 1, "holds no figures of the source's images"),
        (LOOK, 2, "have 1 channel"),
        ("auto", 1, "make them by `monai-tta calibrate"),
    ],
)
def test_why_it_cannot(tmp_path, look, channels, why):
    net = torch.nn.Sequential(torch.nn.Conv2d(channels, 3, 1), torch.nn.InstanceNorm2d(3, affine=True)).eval()
    figures = "auto" if look == "auto" else str(saved(tmp_path, look))
    with pytest.warns(UserWarning, match=why):
        _, case = run(
            net, TowardSource(change="amplitudes", figures=figures), torch.cat([image(2)] * channels, 1), head="softmax"
        )
    assert why in case.reason and not case.adapted


@pytest.mark.parametrize(
    "wrong", [{"change": "colours"}, {"change": "moments", "share": 0.0}, {"change": "moments", "share": 1.5}]
)
def test_choices_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="must be one of|part of the way"):
        TowardSource(**wrong)


def test_all_windows_of_an_image_are_moved_alike():
    """A convolution of size one answers each voxel by itself: with one map for all windows, as if the image were one window."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1)).eval()
    x = image(2, size=16)
    cut, _ = run(net, TowardSource(change="moments", look=LOOK), x, head="softmax", budget=None, overlap=0.0)
    whole, _ = run(net, TowardSource(change="moments", look=LOOK), x, head="softmax", roi_size=16)
    torch.testing.assert_close(cut, whole)


class TestCandidates:
    def test_it_is_tried_where_there_are_no_running_statistics_and_the_figures_are_known(self):
        def changes(kind, look):
            return [method.change for method in usual_candidates(network(kind), look=look) if isinstance(method, TowardSource)]

        assert changes("instance", LOOK) == ["moments", "amplitudes"]
        assert changes("instance", None) == [] and changes("batch", LOOK) == []

    def test_a_predictor_that_likes_it_gets_it(self, tmp_path):
        file = saved(tmp_path, LOOK, low=-0.1, high=0.1, feature="source moments", at=0.25)
        _, case = run(network("instance", 2), Careful(predictor=str(file)), image(2, size=8), head="softmax")
        assert [name for name in case.steps[0].notes if name != "expected gain"] and case.reason is None
        assert all("change='moments'" in name for name in case.steps[0].notes if name != "expected gain")

    def test_calibration_takes_the_figures_from_the_undistorted_images(self, monkeypatch):
        monkeypatch.setattr("monai_tta.preparation.fit.TREES", 5)
        tried = []
        real = Careful.run_candidates

        def noted(self, *given, **named):
            tried.append(named)
            return real(self, *given, **named)

        monkeypatch.setattr(Careful, "run_candidates", noted)
        images = [image(2, 16, seed=k)[0] for k in range(5)]
        predictor = calibrate_network(network("instance", 2), images, settings=CalibrationSettings(size=9, harm=0.1))
        expected = mean_look([look_of(x[None], backgrounds_of(x[None])) for x in images])
        assert predictor.look == expected and tried[0]["look"] == expected


OLDER = [UNIVERSAL, BUNDLES / "vessel_fundus/models/gain_predictor.npz"]  # made before the fields below were kept


class TestOlderFiles:
    @pytest.mark.parametrize(
        "file", [UNIVERSAL, *sorted(BUNDLES.glob("*/models/gain_predictor*.npz"))], ids=lambda file: file.stem
    )
    def test_shipped_predictors_predict_what_they_predicted(self, file):
        """They were fitted to fewer features, which they find by name among those of today."""
        old, new = GainPredictor.load(file), load_predictor(str(file))
        table = np.random.default_rng(0).uniform(-1, 2, (2, len(FEATURES)))
        own = table[:, [FEATURES.index(name) for name in old.features]]
        np.testing.assert_array_equal(old.predict_gains(own), new.predict_gains(table))
        assert old.discount == new.discount
        assert old.prefilter_gain(own) == new.prefilter_gain(table) and new.features == FEATURES
        assert (old.look is None) == (old.loss_limit is None) == (file in OLDER)
        assert (old.sure_spreads is None) == (old.discount == "two spreads") == (file in OLDER)

    def test_one_of_today_keeps_the_look_of_the_source(self):
        file = BUNDLES / "hippocampus_mri/models/gain_predictor.npz"
        assert GainPredictor.load(file).look == load_predictor(str(file)).look is not None
