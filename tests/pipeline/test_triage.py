"""What is said of masks by their expected worth: use as it is, look at, do not use."""

from pathlib import Path

import pytest

from monai_tta.cli.run_report import NOT_RELIABLE, report_quality
from monai_tta.core.record import SURFACE_TOLERANCE, Case, StructureQuality
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.quality_words import describe_quality, quality_columns, quality_in_words, quality_on_record
from monai_tta.pipeline.records import SCHEMA_FILE
from monai_tta.pipeline.triage import LOOK, REFUSE, UNKNOWN, UNUSUAL, USE, triage, words_on_accepted
from monai_tta.reporting import report_page
from tests.small import network, quality_stub

NAMES = LabelNames({0: "background", 1: "anterior", 2: "posterior"})


def case_of(*structures, **changes):
    """A case whose structures are expected to have these Dice, with the ends of their intervals."""
    said = {
        "number": 0,
        "network": "Net",
        "method": "Source()",
        "head": "softmax",
        "learn": "volume",
        "reset": "volume",
        "seed": 0,
    }
    quality = tuple(
        StructureQuality(
            structure=k + 1, dice=dice, low=low, high=high, spread=0.1, nsd=0.9, nsd_low=0.8, nsd_high=1.0, ranking=dice
        )
        for k, (dice, low, high) in enumerate(structures)
    )
    return Case(**{**said, "shape": (1, 1, 8, 8), "quality": quality or None, **changes})


class TestTriage:
    CASES = (
        ("good", case_of((0.9, 0.85, 0.95), (0.88, 0.8, 0.93))),
        ("better", case_of((0.95, 0.9, 0.99), (0.97, 0.92, 0.99))),
        ("half", case_of((0.9, 0.85, 0.95), (0.82, 0.7, 0.9))),
        ("bad", case_of((0.9, 0.85, 0.95), (0.5, 0.3, 0.79))),
        ("unknown", case_of()),
    )
    PREDICTOR = quality_stub(network(dims=2), low=-1.0, high=1.0)

    def test_each_mask_is_judged_by_its_worst_structure_and_the_best_come_first(self):
        found = triage(self.CASES, self.PREDICTOR, 0.8)
        assert [(one.label, one.what) for one in found] == [
            ("better", USE),
            ("good", USE),
            ("half", LOOK),
            ("unknown", UNKNOWN),
            ("bad", REFUSE),
        ]
        assert found[1].row() == ("good", USE, ".88 (.80 to .93)") and found[3].row()[2] == ""

    def test_a_mask_of_an_unusual_image_is_never_used_as_it_is(self):
        good, bad = (0.9, 0.85, 0.95), (0.4, 0.3, 0.5)
        unusual = {"input_check": "not corrected: unlike the source's images", "input_checked": True}
        cases = [("a", case_of(good, **unusual)), ("b", case_of(bad, **unusual)), ("c", case_of(**unusual)), ("d", case_of(good))]
        found = triage(cases, self.PREDICTOR, 0.8)
        assert [(one.label, one.what) for one in found] == [("d", USE), ("a", UNUSUAL), ("c", UNUSUAL), ("b", REFUSE)]
        assert words_on_accepted(found, 0.8).startswith("1 to use as it is, 2 to look at, 1 not to use")

    def test_the_expected_share_of_bad_masks_among_those_to_use(self):
        """Scores go evenly from -1 to 1 spread of .1: .9 is never below .8, .88 is in a tenth of the cases."""
        found = triage(self.CASES, self.PREDICTOR, 0.8)
        assert found[0].chance == 0 and found[1].chance == pytest.approx(0.1, abs=0.011)
        assert words_on_accepted(found, 0.8).startswith("2 to use as they are, 2 to look at, 1 not to use; of those to use, 5.")
        assert "below .80" in words_on_accepted(found, 0.8)
        assert words_on_accepted(found[2:], 0.8) == "0 to use as they are, 2 to look at, 1 not to use"


class TestWords:
    def test_one_structure_needs_no_name(self):
        assert describe_quality(case_of((0.82, 0.71, 0.88)).quality) == (
            "expected Dice .82 (.71 to .88); surface within 1 voxel .90 (.80 to 1.00)"
        )

    def test_everything_says_the_same_tolerance(self):
        files = [SCHEMA_FILE, Path(report_page.__file__).with_name("report.html")]
        assert all(f"within {SURFACE_TOLERANCE} voxel" in file.read_text(encoding="utf-8") for file in files)

    def test_several_structures_are_called_as_the_bundle_calls_them(self):
        case = case_of((0.82, 0.71, 0.88), (1.0, 0.999, 1.0))
        assert quality_in_words(case, NAMES) == (
            "expected Dice anterior .82 (.71 to .88), posterior 1.00 (1.00 to 1.00); "
            "surface within 1 voxel anterior .90 (.80 to 1.00), posterior .90 (.80 to 1.00)"
        )
        assert "structure 2 1.00" in quality_in_words(case, LabelNames({}))
        assert quality_in_words(case_of(), NAMES) is None
        assert quality_in_words(case_of(quality_note="so"), NAMES) == "what the mask is worth is not known: so"

    def test_a_sigmoid_network_has_no_background(self):
        entries = quality_on_record(case_of((0.5, 0.4, 0.6), head="sigmoid"), LabelNames({0: "disc", 1: "cup"}))
        assert entries["quality"][0]["name"] == "disc" and entries["quality_unadapted"] is None

    def test_columns(self):
        entry = quality_on_record(case_of((0.5, 0.4, 0.6)), NAMES)
        found = {"anterior (expected Dice)": 0.5, "anterior (Dice from)": 0.4, "anterior (Dice to)": 0.6}
        found |= {"anterior (expected NSD)": 0.9, "anterior (NSD from)": 0.8, "anterior (NSD to)": 1.0}
        assert quality_columns(entry) == found and quality_columns({}) == {}


@pytest.mark.parametrize(("check", "is_said"), [("not corrected: turned", True), ("corrected: turned", False), (None, False)])
def test_the_worth_of_a_mask_of_an_unusual_image_is_not_said_without_doubt(check, is_said, capsys):
    case = case_of((0.9, 0.85, 0.95), input_check=check)
    report_quality(
        [Outcome(Path("a.nii.gz"), case=case), Outcome(Path("b.nii.gz"), case=case_of(quality_note="so", input_check=check))],
        None,
    )
    first, second = " ".join(capsys.readouterr().err.split()).split("b.nii.gz: ")
    assert first.startswith(f"a.nii.gz: {NOT_RELIABLE if is_said else ''}expected Dice")
    assert second == "what the mask is worth is not known: so"
