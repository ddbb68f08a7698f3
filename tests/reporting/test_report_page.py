"""The page of a run: verdict first, what needs a person before what does not, nothing from elsewhere, texts escaped."""

import html
import re
from html.parser import HTMLParser

import pytest

from monai_tta.reporting.judged_case import judged_cases
from monai_tta.reporting.masks_to_use import LOOK, REFUSE, UNKNOWN, UNUSUAL, USE, judge
from monai_tta.reporting.report_page import report_page
from monai_tta.reporting.run_verdict import verdict
from monai_tta.reporting.slice_pictures import CasePictures, structure_marks
from monai_tta.reporting.step_curves import HEIGHT, Curve, step_curves
from tests.reporting.example_records import STARTS, document, entry, quality

BETWEEN = {"td", "th", "p", "summary", "dd", "dt", "option", "h2"}


class Texts(HTMLParser):
    """The page's elements with their texts, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.opened, self.texts, self.fetched, self.rows = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.fetched += [
            found[name] for name in ("src", "href") if found.get(name) and not found[name].startswith(("#", "data:"))
        ]
        self.opened.append(tag)
        if tag in BETWEEN:
            self.texts.append("")
        if tag == "tr" and "data-kind" in found:
            self.rows.append((found["data-name"], found["data-kind"]))

    def handle_endtag(self, tag):
        while self.opened and self.opened.pop() != tag:
            pass

    def handle_data(self, data):
        if self.texts and not {"script", "style"} & set(self.opened):
            self.texts[-1] += data


def read(page):
    parser = Texts()
    parser.feed(page)
    parser.texts = [text.strip() for text in parser.texts]
    return parser


def test_what_needs_a_person_comes_first():
    page = read(report_page(document(), 0.8))
    assert [kind for _, kind in page.rows] == [
        REFUSE,
        "no mask: it failed",
        "look at it: its input is unusual",
        LOOK,
        UNKNOWN,
        USE,
    ]
    assert [name for name, _ in page.rows] == ["bad <b>name</b>", "unread", "mirrored", "doubtful", "plain", "good"]
    said = " ".join(page.texts)
    assert "1 of 5 masks (20 %) can be used as it is, 3 must be looked at, 1 should not be used" in said
    assert "1 of 6 images (17 %) failed and has no mask" in said and ".40 (.20 to .60)" in said


def test_nothing_is_fetched_and_texts_are_escaped():
    page = report_page(document(), 0.8)
    assert not read(page).fetched and "<b>name" not in page and "@import" not in page and "url(" not in page
    assert "expects no gain" in page and "1.20 ml" in page
    assert "holds pixels" not in page


def test_pictures_make_a_page_with_pixels():
    marks = structure_marks(["anterior", "<b>"])
    page = report_page(document(), 0.8, {0: CasePictures([("axial", b"png")], marks, 1.0986, b"seen", ["No column."])})
    assert "holds pixels of patients" in page and page.count("data:image/png;base64,cG5n") == 1
    assert page.count("data:image/png;base64,c2Vlbg==") == 1 and "No column." in page and "1.1 nats, white" in page
    assert 'style="background: #e69f00"></span>a: anterior' in page and "b: &lt;b&gt;" in page


def test_pictures_say_what_stands_beside_each_other_and_what_filled_means():
    drawn = CasePictures([("axial", b"png")], structure_marks(["head"]), 1.1, has_unadapted=True)
    worst = next(case for case in document()["cases"] if "<" in case["name"])
    page = report_page(document(), 0.8, {worst["number"]: drawn})
    both = f"image, unadapted mask, {worst['status']} mask, uncertainty"
    assert f'alt="{html.escape(worst["name"])}: axial: {both}"' in page and "only this one of the two answers holds" in page
    assert 'class="plot row"' in page
    alone = report_page(document(), 0.8, {worst["number"]: CasePictures([("axial", b"png")])})
    assert (
        "the two answers holds" not in alone and f': axial: image, {worst["status"]} mask"' in alone and "plot row" not in alone
    )


def test_the_head_says_when_the_run_was_started():
    made = document()
    page = report_page(made, 0.8)
    assert "started: 2026-11-30 23:58 (UTC+01:00) · last of 2 starts: 2026-12-01 00:10 (UTC+01:00)" in page
    made["run"]["starts"] = STARTS[:1]
    assert "started: 2026-11-30 23:58 (UTC+01:00)</p>" in report_page(made, 0.8)
    del made["run"]["starts"]  # records of before it was noted
    assert "started" not in report_page(made, 0.8) and "2026" not in report_page(document(anonymous=True), 0.8)


def test_an_anonymous_page_names_no_case():
    page = report_page(document(anonymous=True), 0.8)
    assert not re.search("good|doubtful|mirrored_|unread|plain_seg", page) and "image 3" in page


def test_without_worth_nothing_is_called_usable():
    page = read(report_page(document(with_quality=False), None))
    assert not {USE, REFUSE} & {kind for _, kind in page.rows}
    assert "worth is not known" in " ".join(page.texts)
    stopped = " ".join(read(report_page(document(finished=False), 0.8)).texts)
    assert "6 of 9 images have been done" in stopped


@pytest.mark.parametrize(
    ("intervals", "what", "which"),
    [
        ([(0.8, 0.9)], USE, 0),
        ([(0.9, 0.95), (0.79, 0.9)], LOOK, 1),
        ([(0.7, 0.9), (0.1, 0.79), (0.0, 0.5)], REFUSE, 2),
        ([(0.9, 0.9), (0.85, 0.99)], USE, 1),
    ],
)
def test_the_worst_structure_decides(intervals, what, which):
    assert judge(intervals, 0.8) == (what, which)


def test_curves_leave_out_what_is_not_there():
    steps = [{"losses": {"entropy": value}, "cosine": None, "lr": 0.0} for value in (0.4, None, 0.2)]
    (curve,) = step_curves(steps)
    assert curve == Curve("entropy loss", (0.4, 0.2)) and curve.points() == "0.0,0.0 120.0,28.0"
    assert Curve("one", (1.0,)).points() == "" and Curve("flat", (1.0, 1.0)).points() == "0.0,14.0 120.0,14.0"


def said_of(*cases, run=None, accept=0.8):
    """The verdict on a run with these cases."""
    made = document() | {"cases": list(cases)}
    return " ".join(verdict(judged_cases(made, accept), made["run"] | (run or {}), accept))


def test_every_unusual_image_is_counted_whatever_is_to_be_done_with_its_mask():
    bad, good = quality(("anterior", 0.4, 0.2, 0.6)), quality(("anterior", 0.9, 0.85, 0.95))
    unusual = [entry(k, f"c{k}", quality=bad, input_check="not corrected: unlike the source's images") for k in range(3)]
    said = said_of(*unusual, entry(3, "d", quality=good), entry(4, "e", "failed"))
    assert "3 of 4 masks (75 %) are of images that do not look like the source's" in said and "3 should not be used" in said
    fixed = entry(5, "f", quality=good, input_check="corrected: front-back mirrored")
    assert "1 image did not look like the source's and was corrected first" in said_of(fixed)
    assert "do not look" not in said_of(fixed) and "not checked" not in said_of(fixed)


def test_masks_are_counted_among_those_that_there_are():
    good = quality(("anterior", 0.9, 0.85, 0.95))
    failed = [entry(k, f"f{k}", "failed") for k in (2, 3)]
    said = said_of(entry(0, "a", quality=good), entry(1, "b", "unadapted", quality=good, input_checked=False), *failed)
    assert "2 of 2 masks (100 %) can be used as they are" in said and "2 of 4 images (50 %) failed and have no mask" in said
    assert "1 of 2 masks (50 %) is adapted to its image; the other is the network's own" in said
    assert "The image of 1 mask was not checked" in said
    assert said_of(*failed) == "There is no mask to use. 2 of 2 images (100 %) failed and have no mask."
    assert "Every mask is adapted" in said_of(entry(0, "a")) and "No mask is adapted" in said_of(entry(0, "a", "unadapted"))


def test_the_verdict_stands_before_what_was_run_and_versions_are_said_once():
    page = report_page(document(), 0.8)
    assert page.index("For a Dice of .80") < page.index(
        "bundle: hippocampus_mri · checkpoint: model.pt · method: GraTa · cases: 6 images"
    )
    assert page.count("3.11") == 1 and page.count("0.1.0") == 1 and page.index("How this was made") < page.index("3.11")


def test_what_is_expected_of_a_mask_of_an_unusual_image_is_marked():
    rows = dict(re.findall(r'<tr data-kind="[^"]*" data-name="([^"]*)">(.*?)</tr>', report_page(document(), 0.8)))
    assert [name for name, row in rows.items() if "not to be relied on" in row] == ["mirrored"]
    assert "unlike the source's.</strong>" in report_page(document(), 0.8) and ".91 (.86 to .95)" in report_page(document(), 0.8)
    assert judge([(0.9, 0.95)], 0.8, "not corrected: mirrored") == (UNUSUAL, 0)
    assert judge([(0.1, 0.2)], 0.8, "not corrected: mirrored") == (REFUSE, 0)
    assert judge([(0.9, 0.95)], 0.8, "corrected: mirrored") == (USE, 0)


def test_the_worst_structure_and_the_ranking_stand_in_the_table():
    rows = dict(re.findall(r'<tr data-kind="[^"]*" data-name="([^"]*)">(.*?)</tr>', report_page(document(), 0.8)))
    assert (
        ".82 (.70 to .90) anterior" in rows["doubtful"]
        and ".90 (.84 to .94) posterior" in rows["good"]
        and ".90</td>" in rows["good"]
    )
    assert "ranking" not in report_page(document(with_quality=False), None)


def test_what_the_check_of_an_input_found_or_that_there_was_none():
    texts = read(report_page(document(), 0.8)).texts
    assert [text.count("Its input looks like the source's images.") for text in texts].count(1) == 3
    assert "Its input was not checked." in texts and "Its input is front-back mirrored; it was not corrected." in texts
    old = document()
    for case in old["cases"]:
        case.pop("input_checked", None)
    assert not [text for text in read(report_page(old, 0.8)).texts if text.startswith("Its input")], "older records do not say"


def test_a_reader_finds_words_and_few_digits_and_no_class_of_an_error():
    made = document()
    made["cases"][0]["weight_distance"] = 0.00041063298801553106
    made["cases"][4]["in_words"] = "failed: EOFError: it ends early"
    page = report_page(made, 0.8)
    texts = read(page).texts
    assert "distance from the source's weights" in texts and "0.0004106" in texts and "Failed: it ends early." in texts
    assert not re.search(r"weight_distance|n_windows|0\.00041063|weights_hash|EOFError|\[\]|>False<", page)
    assert texts[texts.index("fix") + 1] == "no" and "guards" not in texts and "weights hash" in texts
    assert texts.count("seconds") >= 6, "in the table's head and for each case that has a mask"


@pytest.mark.parametrize(
    ("values", "least", "is_flat"),
    [
        ((0.32011, 0.32012), 0, True),
        ((0.4, 0.2), 0, False),
        ((-3e-5, 4e-5), 1, True),
        ((-0.1, 0.2), 1, False),
        ((0.0, 0.0), 0, True),
    ],
)
def test_a_change_in_the_fifth_digit_is_flat(values, least, is_flat):
    first, last = (float(point.split(",")[1]) for point in Curve("loss", values, least).points().split())
    assert (abs(first - last) < 1) == is_flat and all(0 <= height <= HEIGHT for height in (first, last))
    if not is_flat:
        assert abs(first - last) == HEIGHT


def test_curves_say_their_first_and_last_value():
    steps = [{"losses": {"loss": value, "auxiliary": None}, "cosine": 0.5, "lr": 1e-4} for value in (0.4, 0.3, 0.21)]
    said = {curve.name: curve.words for curve in step_curves(steps)}
    assert said["loss"] == "0.4 in the first of 3 steps, 0.21 in the last" and set(said) == {"loss", "cosine", "learning rate"}
    assert "loss: loss" not in report_page(document(), 0.8) and "nats" in report_page(document(), 0.8)
