"""The two sentences of a conclusion follow from the figures by the rule in docs/compare.md."""

from math import nan

import pytest

from monai_tta.reporting.conclusion import MIN_CASES, conclusions
from monai_tta.reporting.number_format import counted, p_value, signed
from monai_tta.reporting.summary import tables_of
from tests.reporting.example_rows import changed, row

GOOD = [0.061, 0.059] * 10
NOTHING = [0.0] * 20
HARMFUL = [0.10] * 15 + [-0.05, -0.04, -0.03, -0.02, -0.158]
BAD = [-0.08, -0.06] * 10


def concluded(**domains):
    """The only conclusion about domains, each a mapping from a contender to its changes."""
    rows = [r for domain, changes in domains.items() for r in changed(changes, domain)]
    (conclusion,) = conclusions(tables_of(rows))
    return conclusion


def test_the_best_contender_that_harms_few_comes_first_and_a_better_one_that_harms_many_second():
    found = concluded(a={"Careful": GOOD, "Bad": BAD, "GraTa": HARMFUL}, b={"Careful": NOTHING, "Bad": BAD, "GraTa": NOTHING})
    assert found.sentences == (
        "Careful gained more than half a point of Dice on average on 1 of 2 domains (the most, 6.0 points, on a) "
        "and harmed 0 of 40 cases (0 %).",
        "GraTa gained more than half a point of Dice on average on 1 of 2 domains (the most, 6.0 points, on a), "
        "but harmed 5 of 40 cases (12 %); its worst case lost 15.8 points, on a.",
    )
    assert found.note == "" and found.about == "m, 4 adaptation windows"


def test_a_higher_mean_does_not_make_up_for_harm():
    better = [change + 0.1 for change in HARMFUL[:-5]] + HARMFUL[-5:]
    first, second = concluded(a={"GraTa": better, "Careful": GOOD}).sentences
    assert first.startswith("Careful gained 6.0 points of Dice on average on a and harmed 0 of 20")
    assert second.startswith("GraTa gained") and "but harmed 5 of 20 cases (25 %)" in second


def test_losses_on_a_domain_are_said():
    first, second = concluded(a={"X": GOOD, "Y": BAD}, b={"X": [-0.009, -0.008] * 10, "Y": GOOD}).sentences
    assert (
        "on 1 of 2 domains (the most, 6.0 points, on a), lost more than half a point on 1 (the most, 0.9 points, on b), and"
        in first
    )
    assert second.startswith("Y gained more than half")
    assert "on 1 (the most, 7.0 points, on a), but harmed 20 of 40 cases" in second


def test_where_all_contenders_harm_the_least_harmful_comes_first():
    first, second = concluded(a={"X": BAD, "Y": HARMFUL, "Z": [-0.02] * 20}).sentences
    assert first == (
        "Every contender harmed more than 5 % of its cases; Y harmed the fewest: it gained 6.0 points of Dice on average on a "
        "and harmed 5 of 20 cases (25 %)."
    )
    assert second == (
        "X lost 7.0 points of Dice on average on a and harmed 20 of 20 cases (100 %), the most of the others; "
        "its worst case lost 8.0 points, on a."
    )


def test_where_no_harmless_contender_gained_nothing_is_recommended():
    first, second = concluded(a={"X": NOTHING, "Y": BAD}).sentences
    assert first == "No contender that harmed at most 5 % of its cases gained more than half a point on any domain."
    assert second.startswith("Y lost 7.0 points") and "harmed 20 of 20 cases (100 %), the most of all;" in second
    assert concluded(a={"X": NOTHING, "Y": NOTHING}).sentences[1] == "None of the 2 contenders harmed a case."


def test_others_that_harm_nobody_are_said_to_harm_nobody():
    assert concluded(a={"X": GOOD, "Y": NOTHING}).sentences[1] == (
        "Y neither gained nor lost more than half a point of Dice on average on a and harmed 0 of 20 cases (0 %)."
    )
    assert concluded(a={"X": GOOD, "Y": NOTHING, "Z": NOTHING}).sentences[1] == "None of the other 2 contenders harmed a case."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (HARMFUL, ("gained 6.0 points", "harmed 5 of 20 cases (25 %).", "Its worst case lost 15.8 points of Dice, on a.")),
        (GOOD, ("gained 6.0 points", "harmed 0 of 20 cases (0 %).", "No case lost Dice.")),
        (BAD, ("lost 7.0 points", "harmed 20 of 20 cases (100 %).", "Its worst case lost 8.0 points of Dice, on a.")),
    ],
)
def test_a_single_contender_gets_both_sentences(changes, words):
    sentences = concluded(a={"X": changes}).sentences
    assert sentences[0].startswith("X ") and all(word in " ".join(sentences) for word in words)


def test_a_mean_whose_interval_holds_zero_is_no_gain():
    wild = [0.3, -0.28] * 10  # the mean is one point
    assert "neither gained nor lost" in concluded(a={"X": wild}).sentences[0]


def test_too_few_cases_are_not_concluded_from():
    few = concluded(a={"X": GOOD[: MIN_CASES - 1]})
    assert few.sentences[0].startswith("Too few cases to conclude: no domain has 10 cases")
    assert "gained" in concluded(a={"X": GOOD[:MIN_CASES]}).sentences[0]
    mixed = concluded(a={"X": GOOD}, b={"X": BAD[:3]}, c={"X": BAD[:9]})
    assert "gained 6.0 points of Dice on average on a" in mixed.sentences[0]
    assert mixed.note == "Left out of the conclusion, with fewer than 10 cases: b, c."


def test_without_a_comparison_nothing_is_concluded():
    (alone,) = conclusions(tables_of([row("Source", k, (0.7,)) for k in range(20)]))
    assert alone.sentences[0] == "Only Source was run, so nothing is compared."
    (nan_only,) = conclusions(tables_of(changed({"X": [nan] * 20})))
    (no_source,) = conclusions(tables_of(changed({"X": GOOD}, with_source=False)))
    assert (
        nan_only.sentences
        == no_source.sentences
        == (
            "No case has a Dice by both Source and another contender.",
            "Nothing can be concluded.",
        )
    )
    assert not conclusions([])


def test_cases_without_a_dice_are_not_counted():
    first, _ = concluded(a={"X": [*GOOD, nan, nan]}).sentences
    assert "harmed 0 of 20 cases" in first


def test_each_budget_has_a_conclusion_of_its_own():
    rows = changed({"X": GOOD}, budget=4) + changed({"X": BAD}, budget=0)
    assert [c.about for c in conclusions(tables_of(rows))] == ["m, 4 adaptation windows", "m, all windows"]


def test_numbers_are_written_in_one_form():
    assert [signed(v) for v in (6.14, 10.0, -0.04, 0.04, -10.0, nan)] == ["+6.1", "+10.0", "0.0", "0.0", "-10.0", "-"]
    assert [counted(*of) for of in ((3, 25), (1, 400), (399, 400), (0, 0))] == [
        "3 of 25 (12 %)",
        "1 of 400 (under 1 %)",
        "399 of 400 (over 99 %)",
        "-",
    ]
    assert [p_value(v) for v in (0.0004, 0.01, nan)] == ["< 0.001", "0.010", "-"]
