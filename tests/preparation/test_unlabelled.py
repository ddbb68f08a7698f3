"""Calibration without labels: the source's own answers to undistorted images are the labels, and everything says so."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn
from typer.testing import CliRunner

from monai_tta import Careful, Statistics
from monai_tta.cli.app import app
from monai_tta.preparation import collect_cases as module
from monai_tta.preparation.calibrate import calibrate
from monai_tta.preparation.calibrate_network import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import Kept
from monai_tta.preparation.examples import OWN_ANSWERS
from monai_tta.preparation.labelled_images import check_fit, own_answer
from monai_tta.quality.quality_predictor import QualityPredictor
from tests.small import image, network, same, state

QUICK = Careful(candidates=(Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume")))
SETTINGS = CalibrationSettings(size=12, harm=0.1, budget=1, method=QUICK)
SWI = SlidingWindowInferer(8, 3, 0.25)


def images(n=6, dims=2):
    return [image(dims, 16, seed=k)[0] for k in range(n)]


def at_threshold(level=0.0):
    """A network that segments what is brighter than ``level``; it answers logits of a sigmoid."""
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(-level)
    return layer.eval()


class TestOwnAnswer:
    @pytest.mark.parametrize("head", ["softmax", "sigmoid"])
    def test_it_is_the_mask_of_the_whole_image_by_the_inferer(self, head):
        net = network(dims=2, head=head)
        (x,) = images(1)
        with torch.no_grad():
            logits = SWI(x[None], net)[0]
        expected = logits.argmax(0, keepdim=True) if head == "softmax" else logits > 0
        assert torch.equal(own_answer(net, SWI, x, head), expected.float())

    def test_probabilities_are_cut_at_one_half(self):
        """Every probability is above zero: as logits they would all be foreground."""
        (x,) = images(1)
        net = nn.Sequential(at_threshold(), nn.Sigmoid()).eval()
        assert torch.equal(own_answer(net, SWI, x, "sigmoid"), (x > 0).float())

    def test_the_network_stays_as_it_is(self):
        net = network(dims=2)
        before = state(net)
        own_answer(net, SWI, images(1)[0], "softmax")
        assert same(before, state(net))


class TestNetwork:
    def test_it_is_a_calibration_on_masks_that_the_network_made(self):
        net = network(dims=2)
        with torch.no_grad():
            masks = [SWI(x[None], net)[0].argmax(0, keepdim=True) for x in images()]
        own = calibrate_network(net, images(), inferer=SWI, settings=SETTINGS)
        given = calibrate_network(net, images(), masks, inferer=SWI, settings=SETTINGS)
        assert own.about.pop("labels") == OWN_ANSWERS and given.about.pop("labels") == "given"
        assert own.about == given.about and own.margin == given.margin and own.about["images"] == 6

    def test_some_labels(self):
        x = images()
        labels = [*((one > 1).float() for one in x[:2]), *[None] * 4]
        found = calibrate_network(network(dims=2), x, labels, inferer=SWI, settings=SETTINGS)
        assert found.about["labels"] == f"given for 2 images, {OWN_ANSWERS} for 4"

    def test_a_label_that_is_there_is_the_label(self):
        x = images()
        given = [(x[0] > 1).float(), *[None] * 5]
        _, usable = check_fit([at_threshold()] * len(x), SWI, "sigmoid", list(zip(x, given, strict=True)))
        assert torch.equal(usable[0].label, given[0]) and torch.equal(usable[1].label, (x[1] > 0).float())

    def test_an_image_in_which_the_network_finds_nothing_is_left_out(self):
        x = images(7)
        x[3] = x[3] - 100
        head, usable = check_fit([at_threshold()] * len(x), SWI, "auto", [(one, None) for one in x])
        assert head == "sigmoid" and len(usable) == 6 and all(torch.equal(one.label, (one.image > 0).float()) for one in usable)

    def test_too_few(self):
        with pytest.raises(ValueError, match="found 4 images; at least 5"):
            calibrate_network(network(dims=2), images(4), settings=SETTINGS)
        with pytest.raises(ValueError, match="0 of 6 images can be used; .* in the network's answers"):
            check_fit([at_threshold(1000.0)] * len(images()), SWI, "auto", [(one, None) for one in images()])


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "CalibrationSettings", lambda **given: CalibrationSettings(**given, method=QUICK))


class TestBundle:
    def found(self, bundle, trials, files, dataset_dir=None, **changes):
        """The predictor, how many trials were kept, and the lines about images that were left out."""
        keys = {"split": "source_val"} if dataset_dir else None
        how = {"keys": keys, "trials": trials, "images": files}
        *done, predictor = calibrate(bundle, dataset_dir, "model.pt", replace(SETTINGS, **changes), **how)
        return predictor, max([0, *(n for n in done if isinstance(n, Kept))]), [line for line in done if isinstance(line, str)]

    def test_trials_are_kept_apart_and_a_bad_image_is_named(self, bundle_copy, phantom_set, tmp_path, monkeypatch):
        files = sorted((phantom_set / "images").glob("*.nii.gz"))
        first, kept, lines = self.found(bundle_copy, tmp_path / "t", files)
        assert kept == 0 and not lines and first.about["labels"] == OWN_ANSWERS and first.about["images"] == 6
        moved = [shutil.copy(file, tmp_path / file.name) for file in files]
        with monkeypatch.context() as patched:
            patched.setattr(Careful, "run_candidates", lambda *_: pytest.fail("a trial was made"))
            again, kept, _ = self.found(bundle_copy, tmp_path / "t", [tmp_path / file.name for file in files], harm=0.2)
        assert kept == 12 and again.about["labels"] == OWN_ANSWERS, f"where they lie does not matter: {moved}"
        files[2].write_bytes(b"damaged")
        other, kept, lines = self.found(bundle_copy, tmp_path / "t", files)
        assert kept == 0 and lines[0].startswith("c2.nii.gz is left out: ") and other.about["images"] == 5

    def test_an_image_that_is_labelled_counts_once_and_with_its_label(self, bundle_copy, phantom_set, tmp_path):
        split = phantom_set / "split.csv"
        split.write_text(split.read_text(encoding="utf-8").replace("source_train", "source_val"), encoding="utf-8")
        files = sorted((phantom_set / "images").glob("*.nii.gz"))
        both, kept, _ = self.found(bundle_copy, tmp_path / "t", files, phantom_set)
        assert both.about["labels"] == f"given for 4 images, {OWN_ANSWERS} for 2" and kept == 0
        own, kept, _ = self.found(bundle_copy, tmp_path / "t", files)
        assert kept == 0 and own.about["labels"] == OWN_ANSWERS

    def test_the_command_says_what_harm_was_measured_against(self, bundle_copy, phantom_set, tmp_path, quick):
        words = ["calibrate", bundle_copy, phantom_set / "images", "--budget", 1, "--size", 11, "--harm", 0.1]
        words = [*map(str, words), "--out", str(tmp_path / "p.npz"), "--device", "cpu"]
        done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        said = " ".join(done.output.split())
        assert done.exit_code == (3 if "of no use" in said else 0), done.output
        assert "against the network's own answers" in said and OWN_ANSWERS in said, done.output
        done = CliRunner().invoke(app, [*words, "--json"])
        assert json.loads(done.stdout)["found"]["labels"] == OWN_ANSWERS
        done = CliRunner().invoke(app, [*words, "--set", "split=source_val"])
        assert done.exit_code == 2 and "split" in done.output, "the inference config has no such entry"

    def test_quality_alone_needs_labels_and_makes_one_file(self, bundle_copy, phantom_set, tmp_path):
        split = phantom_set / "split.csv"
        known = split.read_text(encoding="utf-8").replace("target", "source_val").replace("source_train", "source_val")
        split.write_text(known, encoding="utf-8")
        words = ["calibrate", bundle_copy, "--budget", 1, "--size", 10, "--out", tmp_path / "p.npz", "--quality-only"]
        labelled = [*map(str, words), "--dataset-dir", str(phantom_set), "--set", "split=source_val"]
        done = CliRunner().invoke(app, labelled, env={"COLUMNS": "200"})
        assert done.exit_code == 0 and "then says what is to be expected of each mask" in done.output, done.output
        assert ", adapted" not in done.output and "gain" not in done.output
        assert not (tmp_path / "p.npz").exists() and not QualityPredictor.load(tmp_path / "p_quality.npz").adapted
        done = CliRunner().invoke(app, [*labelled, "--json"])
        said = json.loads(done.stdout)
        assert said["found"] is None and said["written"] is None and said["quality"]["images"] == 6
        done = CliRunner().invoke(app, [*map(str, words), str(phantom_set / "images")], env={"COLUMNS": "200"})
        assert done.exit_code == 2 and "needs a true label for each image" in " ".join(done.output.split())


def test_something_must_be_given():
    done = CliRunner().invoke(app, ["calibrate", "hippocampus_mri"], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and "give images of the source, or --dataset-dir" in " ".join(done.output.split())
