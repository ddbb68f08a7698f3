"""The page of a run: verdict first, what needs a person before what does not, nothing from elsewhere, texts escaped."""

import re
from html.parser import HTMLParser

import pytest

from monai_tta.reporting.masks_to_use import LOOK, REFUSE, UNKNOWN, USE, judge
from monai_tta.reporting.report_page import report_page
from monai_tta.reporting.step_curves import Curve, step_curves
from tests.reporting.example_records import document

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
    assert "1 of 6 masks (17 %) can be used as they are, 3 must be looked at, 1 should not be used" in said
    assert "1 of 6 images (17 %) failed and have no mask" in said and ".40 (.20 to .60)" in said


def test_nothing_is_fetched_and_texts_are_escaped():
    page = report_page(document(), 0.8)
    assert not read(page).fetched and "<b>name" not in page and "@import" not in page and "url(" not in page
    assert "expects no gain" in page and "1.2 ml" in page
    assert "holds pixels" not in page


def test_pictures_make_a_page_with_pixels():
    page = report_page(document(), 0.8, {0: [("axial", b"png")]})
    assert "holds pixels of patients" in page and page.count("data:image/png;base64,cG5n") == 1


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
    assert curve == Curve("loss: entropy", (0.4, 0.2)) and curve.points() == "0.0,0.0 120.0,28.0"
    assert Curve("one", (1.0,)).points() == "" and Curve("flat", (1.0, 1.0)).points() == "0.0,14.0 120.0,14.0"
