"""In which views `monai-tta calibrate` lets a network answer: those of its training, where a bundle says which these are."""

import re

import pytest

from monai_tta.cli.demo import BUNDLE
from monai_tta.core.views import Views
from monai_tta.methods.careful import Careful
from monai_tta.pipeline.bundle_config import BundleError
from monai_tta.preparation.calibrate import calibrate
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.trained_views import settings_for_source
from monai_tta.quality.quality_predictor import QualityPredictor

USUAL = CalibrationSettings()


def bundle_that_says(folder, line):
    """A folder with the hippocampus bundle's ``compare.yaml``, and another line on mirrors."""
    (folder / "configs").mkdir(parents=True)
    text = (BUNDLE / "configs" / "compare.yaml").read_text(encoding="utf-8")
    changed = re.sub(r"^mirrors:.*$", line, text, flags=re.MULTILINE)
    (folder / "configs" / "compare.yaml").write_text(changed, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("line", "views"),
    [
        ("mirrors: [0, 2]", Views(axes=(0, 2))),
        ("mirrors: []", Views(axes=())),
        ("", Views()),
    ],
)
def test_views_mirror_along_the_axes_that_the_bundle_names(line, views, tmp_path):
    found = settings_for_source(bundle_that_says(tmp_path, line), USUAL)
    assert found.views == views
    assert found.source_alone.views == views, "the quality predictor compares the same views"


def test_views_that_the_user_names_stay_and_so_do_those_of_a_bundle_that_says_nothing(tmp_path):
    assert settings_for_source(tmp_path, USUAL) is USUAL, "no compare.yaml"
    own = CalibrationSettings(method=Careful(views=Views(axes=(1,))))
    assert settings_for_source(bundle_that_says(tmp_path / "bundle", "mirrors: [0]"), own) is own


def test_a_protocol_that_cannot_be_read_is_told_and_not_passed_over(tmp_path):
    with pytest.raises(BundleError, match=r"compare\.yaml has an entry that no comparison knows"):
        settings_for_source(bundle_that_says(tmp_path, "mirors: [0]"), USUAL)


def test_a_calibrated_bundle_keeps_its_views(phantom_set, bundle_copy):
    split = (phantom_set / "split.csv").read_text(encoding="utf-8")
    (phantom_set / "split.csv").write_text(re.sub("target|source_train", "source_val", split), encoding="utf-8")
    settings = CalibrationSettings(
        size=10, budget=1, harm=0.2, quality_only=True
    )  # the gain predictor's views are from there, too
    *_, quality = calibrate(bundle_copy, phantom_set, settings=settings, keys={"split": "source_val"})
    assert isinstance(quality, QualityPredictor) and quality.views == Views(axes=(0,))
