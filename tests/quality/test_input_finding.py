"""What is said of an input follows from its figures alone."""

from math import log

import pytest

from monai_tta.quality.corrections import ChannelOrder, Intensity, Reorder
from monai_tta.quality.input_finding import finding_of
from monai_tta.quality.input_reference import InputReference, read_input_reference, reference_of_cases
from monai_tta.quality.possible_corrections import HomeScale

SCALE = HomeScale((0.0, 10.0, 20.0), (1.0, 1.0, 1.0))
HOME = InputReference(
    20,
    {
        "entropy": (0.0, 0.5),
        "share": (-3.0, 0.5),
        "extent x": (log(50), 0.3),
        "extent y": (log(50), 0.3),
        "spacing x": (0.0, 0.3),
        "values": (log(64), 0.5),
        "size": (6.0, 0.5),
    },
    SCALE,
    limit=10.0,
)
GIVEN = {
    "entropy": 0.0,
    "share": -3.0,
    "extent x": log(50),
    "extent y": log(50),
    "spacing x": 0.0,
    "values": log(64),
    "size": 6.0,
}
MIRROR, COLOURS, GREY = Reorder("mirrored", (0, 1), (0,)), ChannelOrder("colours"), Intensity("grey", "inverted", -1.0)


def test_the_distance_is_a_sum_over_kinds_of_mean_squares():
    assert HOME.distance(GIVEN) == 0
    assert HOME.distance(GIVEN | {"entropy": 1.0, "share": -4.0}) == pytest.approx(4 + 4)
    assert HOME.distance(GIVEN | {"extent x": log(50) + 0.6}) == pytest.approx(4 / 2)
    assert HOME.distance({"entropy": float("nan")}) == 400, "a figure that is not finite is as far as can be"
    assert HOME.distance({"unknown": 7.0}) == 0


def test_an_image_like_home_needs_no_correction():
    finding = finding_of(HOME, GIVEN | {"entropy": 1.0}, [(MIRROR, GIVEN)])
    assert not finding.noticed and finding.names == () and finding.only_remedy is None


def test_the_one_correction_that_brings_it_home_is_named_and_how_sure_it_is():
    far = GIVEN | {"entropy": 4.0}
    finding = finding_of(HOME, far, [(COLOURS, far), (MIRROR, GIVEN | {"entropy": 0.5}), (GREY, GIVEN | {"entropy": 2.0})])
    assert finding.names == ("mirror 0",) and finding.only_remedy.correction is MIRROR
    assert finding.only_remedy.sure > 0.95 and "mirrored" in finding.words and "%" in finding.words


def test_equally_good_corrections_are_all_named_and_none_is_the_only_one():
    finding = finding_of(HOME, GIVEN | {"entropy": 4.0}, [(MIRROR, GIVEN), (COLOURS, GIVEN | {"entropy": 0.3})])
    assert finding.names == ("mirror 0", "colours") and finding.only_remedy is None
    assert all(0.3 < remedy.sure < 0.7 for remedy in finding.remedies)
    assert "mirrored" in finding.words and "colours" in finding.words


def test_a_correction_that_does_not_bring_it_home_is_not_named():
    finding = finding_of(HOME, GIVEN | {"entropy": 8.0}, [(MIRROR, GIVEN | {"entropy": 4.0})])
    assert finding.names == ("unlike",) and "unsure" in finding.words


def test_a_little_too_far_is_a_shift_not_a_fault():
    finding = finding_of(HOME, GIVEN | {"entropy": 2.5}, [(MIRROR, GIVEN | {"entropy": 2.4})])
    assert finding.distance > finding.limit and not finding.noticed


def test_a_picture_of_another_size_is_no_fault_by_itself():
    figures = {name: value for name, value in HOME.figures.items() if not name.startswith("spacing")}
    photographs = InputReference(20, figures, SCALE, limit=10.0)
    given = {name: value for name, value in GIVEN.items() if name in figures} | {"extent x": log(300), "extent y": log(200)}
    assert not finding_of(photographs, given | {"entropy": 0.5}, []).noticed
    assert finding_of(photographs, given | {"entropy": 9.0}, []).names == ("padded",)


def test_what_no_correction_mends_is_described():
    far = {"entropy": 2.0}
    assert finding_of(HOME, GIVEN | far | {"extent x": log(15)}, []).names == ("cropped",)
    assert finding_of(HOME, GIVEN | far | {"extent y": log(200)}, []).names == ("padded",)
    wrong_spacing = finding_of(HOME, GIVEN | far | {"spacing x": log(5)}, [])
    assert wrong_spacing.names == ("spacing",) and "5, usually 1" in wrong_spacing.words
    mask = finding_of(HOME, GIVEN | {"values": log(3)}, [(MIRROR, GIVEN)])
    assert mask.names == ("mask",) and "3 distinct values" in mask.words


def test_a_reference_of_cases_knows_their_spread_and_a_limit_that_they_keep():
    cases = [GIVEN | {"entropy": value} for value in (-1.0, -0.5, 0.0, 0.2, 0.5, 1.0)]
    reference = reference_of_cases(cases, [SCALE] * 6)
    middle, spread = reference.figures["entropy"]
    assert middle == pytest.approx(0.1) and 0.5 < spread < 1.0
    assert all(reference.distance(case) < reference.limit / 2 for case in cases)
    assert reference.figures["extent x"][1] == 0.3, "what does not differ counts with the least spread"
    assert InputReference.from_dict(reference.to_dict() | {"figures": dict(reference.figures)}) == reference
    with pytest.raises(ValueError, match="at least 5"):
        reference_of_cases(cases[:4], [SCALE] * 4)


@pytest.mark.parametrize(
    "content",
    ["[]", "{", "null", '{"inputs": 3}', '{"inputs": {"format": 2}}', '{"inputs": {"format": 1, "figures": {}}}'],
)
def test_a_damaged_reference_is_refused(content, tmp_path):
    file = tmp_path / "reference.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="monai-tta reference|is no reference"):
        read_input_reference(file)
    file.write_text("{}", encoding="utf-8")
    assert read_input_reference(file) is None, "a reference without figures of inputs"


def test_a_spread_of_zero_is_refused():
    raw = HOME.to_dict()
    raw["figures"]["entropy"] = [0.0, 0.0]
    with pytest.raises(ValueError, match="without spread"):
        InputReference.from_dict(raw)
