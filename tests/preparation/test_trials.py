"""Trials are kept: a stopped calibration goes on, another harm rate is quick, and a useless predictor is called so."""

import json
import re
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from typer.testing import CliRunner

from monai_tta import Careful, Source, Statistics
from monai_tta.cli.app import app
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.pipeline.bundle_predictor import safe_method
from monai_tta.preparation.calibrate import calibrate
from monai_tta.preparation.calibrate_network import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.collect_cases import Kept, collect_cases
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import fit_predictor
from monai_tta.preparation.trials import KeptTrials, identity_of, trials_folder
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.predictor_files import predictor_file
from monai_tta.quality.quality_predictor import QualityPredictor
from tests.preparation.calibration_cases import calibration_set
from tests.small import image, network, stump

QUICK = Careful(candidates=(Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume")))
SETTINGS = CalibrationSettings(size=12, harm=0.1, budget=1, method=QUICK)


def labelled(n=6):
    images = [image(2, 16, seed=k)[0] for k in range(n)]
    return images, [(x > 1).float() + (x > 3).float() for x in images]


def collected(trials, settings=SETTINGS, pairs=None):
    """The cases, and how many of them were kept."""
    calibration = CalibrationSet("a")
    images, labels = pairs or labelled()
    how = {"head": "softmax", "inferer": SlidingWindowInferer(8), "settings": settings, "trials": trials}
    done = list(collect_cases(calibration, network(dims=2), images, labels, **how))
    assert done == list(range(1, settings.size + 1))
    return calibration, sum(isinstance(number, Kept) for number in done)


def same_predictor(a, b):
    return a.about == b.about and a.margin == b.margin and np.array_equal(a.forest.value, b.forest.value)


class TestKept:
    def test_a_calibration_that_goes_on_equals_one_that_was_not_stopped(self, tmp_path):
        whole, kept = collected(KeptTrials(None))
        assert kept == 0
        trials = KeptTrials(tmp_path, "x")
        collected(trials, replace(SETTINGS, size=9))
        again, kept = collected(trials)
        assert kept == 9 and trials.numbers() == set(range(12))
        assert same_predictor(fit_predictor(whole, 0.1), fit_predictor(again, 0.1))
        assert same_predictor(fit_predictor(whole, 0.3), fit_predictor(again, 0.3))

    def test_a_damaged_or_foreign_trial_is_made_again(self, tmp_path):
        trials = KeptTrials(tmp_path, "x")
        first, _ = collected(trials)
        (tmp_path / "x" / "trial_00003.npz").write_bytes(b"PK\x03\x04 half")
        np.savez(tmp_path / "x" / "trial_00005.npz", a=np.zeros(3))
        (tmp_path / "x" / "notes.txt").write_text("mine", encoding="utf-8")
        again, kept = collected(trials)
        assert kept == 10 and same_predictor(fit_predictor(first, 0.1), fit_predictor(again, 0.1))
        trials.forget()
        assert trials.numbers() == set() and [p.name for p in (tmp_path / "x").iterdir()] == ["notes.txt"]

    def test_a_trial_that_could_not_be_used_is_not_tried_again(self, tmp_path):
        trials = KeptTrials(tmp_path, "x")
        trials.write(0, None)
        assert trials.read(0) == (True, None) and trials.read(1) == (False, None)

    def test_what_is_kept_shows_no_shape(self):
        """Each voxel's values are there, in the order of the values."""
        case = calibration_set(n=1).cases[0]
        rows = np.stack([*case._label, *case._probabilities.reshape(-1, case._probabilities.shape[-1])[::-1]]).T
        assert [tuple(row) for row in rows] == sorted(tuple(row) for row in rows)

    def test_where_they_are(self, tmp_path):
        assert trials_folder(tmp_path / "mine.npz") == tmp_path / "mine.trials"


class TestEnough:
    def test_images_without_a_label_are_left_out_before_any_trial(self):
        images, labels = labelled(8)
        empty = [*labels[:6], labels[6] * 0, labels[7]]
        flat = [*images[:7], images[7] * 0]
        calibration, _ = collected(KeptTrials(None), pairs=(flat, empty))
        assert len(calibration.cases) == 12 and {case.group for case in calibration.cases} == set(range(6))

    def test_too_few_with_a_label_are_refused_with_the_number_before_any_trial(self, monkeypatch):
        monkeypatch.setattr(Careful, "run_candidates", lambda *_: pytest.fail("a trial was made"))
        images, labels = labelled(7)
        with pytest.raises(ValueError, match="4 of 7 labelled images can be used; at least 5 are needed"):
            collected(KeptTrials(None), pairs=(images, [*labels[:4], *(label * 0 for label in labels[4:])]))

    def test_any_five_images_are_enough_whatever_their_numbers_are(self):
        """Images 0, 5, 10, 15 and 20 would all be in one fold."""
        cases = calibration_set(n=40)
        cases.cases = [replace(case, group=5 * (k % 5)) for k, case in enumerate(cases.cases)]
        assert fit_predictor(cases, 0.1).about["cases"] == 40

    def test_a_missing_scikit_learn_is_told_before_any_trial(self, monkeypatch):
        monkeypatch.setattr("monai_tta.preparation.fit.find_spec", lambda name: None)
        with pytest.raises(ImportError, match="scikit-learn"):
            calibrate_network(network(dims=2), *labelled(), settings=SETTINGS)

    @pytest.mark.parametrize("wrong", [{"size": 4, "harm": 0.5}, {"budget": 0}, {"budget": -3}])
    def test_settings_that_make_no_sense(self, wrong):
        with pytest.raises(ValueError, match="at least"):
            replace(SETTINGS, **wrong)


class TestUse:
    @pytest.mark.parametrize(
        "about, why",
        [
            ({"mean gain held out": 0.0}, r"is \+0.00 points of Dice, which is not above zero"),
            ({"mean gain held out": -0.01}, r"is -1.00 points"),
            ({"mean gain held out": 0.02, "harm held out": 0.2, "wanted harm": 0.03}, "harms 20.0% of the held-out cases"),
        ],
    )
    def test_a_useless_predictor_says_why_and_run_does_not_adapt(self, about, why, tmp_path):
        weights = tmp_path / "model.pt"
        replace(stump(), about=about).save(predictor_file(weights))
        assert re.search(why, GainPredictor.load(predictor_file(weights)).useless_because())
        method, words = safe_method(network(), weights)
        assert method == Source() and "of no use" in words and re.search(why, words)

    def test_a_useful_one_is_used(self, tmp_path):
        weights = tmp_path / "model.pt"
        good = replace(stump(), about={"mean gain held out": 0.02, "harm held out": 0.01, "wanted harm": 0.03})
        good.save(predictor_file(weights))
        assert good.useless_because() is None and safe_method(network(), weights)[0] == Careful()
        assert stump().useless_because() is None, "one that says nothing of itself"


@pytest.fixture
def source_set(phantom_set):
    """The six phantoms, all of them images of the source."""
    file = phantom_set / "split.csv"
    text = file.read_text(encoding="utf-8").replace("target", "source_val").replace("source_train", "source_val")
    file.write_text(text, encoding="utf-8")
    return phantom_set


class TestBundle:
    KEYS = {"split": "source_val"}

    def predictor(self, bundle, data, trials, **changes):
        """The predictor, how many trials were kept, and the lines about images that were left out."""
        *done, predictor = calibrate(bundle, data, "model.pt", replace(SETTINGS, **changes), self.KEYS, trials=trials)
        return predictor, max([0, *(n for n in done if isinstance(n, Kept))]), [line for line in done if isinstance(line, str)]

    def test_another_harm_rate_reads_no_image_and_tries_nothing(self, bundle_copy, source_set, tmp_path, monkeypatch):
        first, kept, _ = self.predictor(bundle_copy, source_set, tmp_path / "t")
        assert kept == 0 and first.about["wanted harm"] == 0.1
        with monkeypatch.context() as patched:
            patched.setattr(LabelledDomain, "case", lambda *_: pytest.fail("an image was read"))
            other, kept, _ = self.predictor(bundle_copy, source_set, tmp_path / "t", harm=0.2)
        assert kept == 12 and other.about["wanted harm"] == 0.2 and other.about["cases"] == first.about["cases"]
        moved = source_set.rename(tmp_path / "elsewhere")
        assert self.predictor(bundle_copy, moved, tmp_path / "t")[1] == 12, "where the data lie does not matter"
        names = " ".join(str(path) for path in (tmp_path / "t").rglob("*"))
        content = b"".join(path.read_bytes() for path in (tmp_path / "t").rglob("*.npz"))
        assert "c0" not in names.replace(str(tmp_path), "") and b".nii" not in content and b"phantoms" not in content

    def test_images_as_they_are_that_a_kill_left_out_are_answered_when_it_goes_on(self, bundle_copy, source_set, tmp_path):
        for _ in range(2):
            done = calibrate(bundle_copy, source_set, "model.pt", SETTINGS, self.KEYS, trials=tmp_path / "t")
            (quality,) = [one for one in done if isinstance(one, QualityPredictor)]
            assert quality.about["undistorted images"] == 6
            kept = sorted((tmp_path / "t").glob("*-undistorted/trial_*.npz"))
            assert len(kept) == 6
            for file in kept[2:]:
                file.unlink()

    def test_a_quick_calibration_stays_quick_when_its_trials_are_kept(self, bundle_copy, source_set, tmp_path):
        changes = {"quick": True, "method": Careful()}
        found = [self.predictor(bundle_copy, source_set, tmp_path / "t", **changes, harm=harm) for harm in (0.1, 0.2)]
        assert [kept for _, kept, _ in found] == [0, 12] and all(predictor.quick for predictor, _, _ in found)

    def test_what_trials_depend_on(self, bundle_copy, source_set):
        def identity(settings=SETTINGS, keys=self.KEYS):
            items = LabelledDomain.__new__(LabelledDomain)
            items = [{"image": str(source_set / "images" / "c0.nii.gz"), "label": str(source_set / "labels" / "c0.nii.gz")}]
            return identity_of(bundle_copy, "model.pt", items, source_set, keys, settings)

        first = identity()
        assert first == identity(replace(SETTINGS, size=20, harm=0.3))
        others = {identity(replace(SETTINGS, seed=1)), identity(replace(SETTINGS, budget=2)), identity(keys={"split": "target"})}
        others.add(identity(replace(SETTINGS, quick=True)))
        label = source_set / "labels" / "c0.nii.gz"
        voxels = np.asarray(nib.load(label).dataobj).copy()
        voxels[15, 15, 15] = 2  # one voxel in the middle
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), label)
        others.add(identity())
        shutil.copy(bundle_copy / "models" / "model_instance.pt", bundle_copy / "models" / "model.pt")
        others.add(identity())
        config = bundle_copy / "configs" / "inference.yaml"
        config.write_text(config.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
        others.add(identity())
        assert len(others) == 7 and first not in others

    def test_an_image_that_cannot_be_read_is_left_out_and_said(self, bundle_copy, source_set, tmp_path):
        (source_set / "images" / "c2.nii.gz").write_bytes(b"damaged")
        predictor, _, lines = self.predictor(bundle_copy, source_set, tmp_path / "t")
        assert predictor.about["cases"] == 12 and len(lines) == 1 and "3 of 6 is left out" in lines[0]
        (source_set / "images" / "c3.nii.gz").write_bytes(b"damaged")
        with pytest.raises(ValueError, match="found 4 labelled images; at least 5"):
            self.predictor(bundle_copy, source_set, tmp_path / "t")

    def test_the_command_goes_on_after_a_stop_and_calls_a_useless_predictor_so(
        self, bundle_copy, source_set, tmp_path, monkeypatch
    ):
        from monai_tta.preparation import calibration_settings as module

        monkeypatch.setattr(module, "CalibrationSettings", lambda **given: CalibrationSettings(**given, method=QUICK))
        words = ["calibrate", bundle_copy, "--dataset-dir", source_set, "--set", "split=source_val", "--budget", 1]
        words += ["--size", 11, "--harm", 0.1, "--out", tmp_path / "p.npz"]
        tried, real = [], Careful.run_candidates

        def stop_at_the_fourth(*given, **named):
            tried.append(1)
            if len(tried) == 4:
                raise KeyboardInterrupt
            return real(*given, **named)

        monkeypatch.setattr(Careful, "run_candidates", stop_at_the_fourth)
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 130 and "the same command goes on" in done.output and not (tmp_path / "p.npz").exists()
        assert len(list((tmp_path / "p.trials").rglob("trial_*.npz"))) == 3
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 3 and len(tried) == 4 + 8 + 6, done.output  # six images as they are
        assert "3/11 distorted images, as an earlier calibration left them" in done.output
        said = " ".join(done.output.split())
        assert "of no use: its mean gain on held-out cases is" in said and "does not adapt this checkpoint" in said
        done = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert done.exit_code == 3 and len(tried) == 18 and json.loads(done.stdout)["of no use because"]


def test_torch_draws_nothing_of_the_callers(tmp_path):
    before = torch.random.get_rng_state()
    collected(KeptTrials(tmp_path, "x"), replace(SETTINGS, size=9))
    assert torch.equal(before, torch.random.get_rng_state())
