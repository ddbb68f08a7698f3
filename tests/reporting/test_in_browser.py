"""Pages in a real browser: that of a run sorts, filters, opens a case by keys, fits the window and prints. Needs Chromium.

With the environment variable AXE_CORE, the path of axe.min.js (npm install axe-core), accessibility is checked, too.
"""

import base64
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from monai_tta.evaluation.trust_figures import trust_tables
from monai_tta.reporting import plots
from monai_tta.reporting.case_pictures import png_of
from monai_tta.reporting.page import Plot, page
from monai_tta.reporting.report_page import report_page
from monai_tta.reporting.slice_pictures import CasePictures, structure_marks
from monai_tta.reporting.summary import tables_of
from monai_tta.reporting.trust_page import trust_page
from tests.reporting.browser import CHROMIUM, browser_page
from tests.reporting.example_records import document
from tests.reporting.example_rows import SETTINGS, some

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
NAMES = '[...document.querySelectorAll("#masks tbody tr")].filter(row => !row.hidden).map(row => row.dataset.name)'
OPEN_ALL = 'document.querySelectorAll("details").forEach(item => { item.open = true; })'
PLANES = ("axial", "coronal", "sagittal")
LONG = "patient_0123456789_poor_scanner_bias_field_of_a_name_without_any_place_to_break_it_in_the_table"
# The cells whose text ends beyond them, and by how much the page is wider than the window.
OVERFLOW = """(() => {
  const beyond = [];
  for (const cell of document.querySelectorAll("th, td")) {
    if (!cell.textContent) continue;
    const range = document.createRange();
    range.selectNodeContents(cell);
    const text = range.getBoundingClientRect(), box = cell.getBoundingClientRect();
    if (text.right > box.right + 1 || text.left < box.left - 1 || text.bottom > box.bottom + 1) beyond.push(cell.textContent);
  }
  return {beyond, wider: document.documentElement.scrollWidth - document.documentElement.clientWidth};
})()"""
# The cells that a print would cut off at the right edge of the paper.
CUT = """[...document.querySelectorAll("th, td")]
  .filter(cell => cell.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(cell => cell.textContent)"""


def comparison():
    rows = some() + some(domain="e")
    tables = tables_of(rows)
    return page(
        tables, SETTINGS, [Plot("harm", "Harm and gain", plots.png(plots.harm_and_gain(tables[0])), tables[0])], seeds=[0]
    )


def trust():
    rows = [replace(one, signals={"entropy": 0.1 * k, "volume": 3.0 * k}) for k, one in enumerate(some() + some(domain="e"))]
    return trust_page(trust_tables(rows, 0.5, {}, 50), SETTINGS, 0.5)


def report():
    return report_page(document(), 0.8)


def long_names():
    made = document()
    for case in made["cases"]:
        case["name"] = f"{LONG}_{case['number']}"
    return report_page(made, 0.8)


def with_pictures():
    png = png_of(Image.new("RGB", (912, 300), "grey"))
    drawn = CasePictures([(plane, png) for plane in PLANES], structure_marks(["anterior", "posterior"]), 1.1, png, ["A note."])
    return report_page(document(), 0.8, {case["number"]: drawn for case in document()["cases"] if case["masks"]})


def with_both_answers():
    """Four panels beside each other of the first case, three of the others."""
    png = png_of(Image.new("RGB", (1218, 322), "grey"))
    slices = [(plane, png) for plane in PLANES]
    made = {
        case["number"]: CasePictures(slices, structure_marks(["anterior", "posterior"]), largest, has_unadapted=True)
        for case, largest in zip(document()["cases"], (1.1, *[None] * 9), strict=False)
        if case["masks"]
    }
    return report_page(document(), 0.8, made)


@pytest.fixture
def shown(tmp_path):
    """Opens a page: a function of its text."""
    with browser_page(tmp_path) as browser:

        def show(text):
            (tmp_path / "page.html").write_text(text, encoding="utf-8")
            browser.open(tmp_path / "page.html")
            return browser

        yield show


@pytest.mark.parametrize("make", [comparison, trust, report])
def test_pages_open_without_errors(shown, make):
    browser = shown(make())
    assert browser.run("document.title.length") and not browser.errors


def test_an_error_of_a_page_is_seen(shown):
    browser = shown("<script>lost()</script>")
    assert browser.run("1") == 1 and browser.errors


def test_the_table_is_sorted_by_keys(shown):
    browser = shown(report())
    first = browser.run(NAMES)
    assert first[0] == "bad <b>name</b>"
    browser.tab_to('at.textContent === "seconds"')
    browser.press("Enter")
    by_seconds = browser.run(NAMES)
    assert by_seconds == ["good", "doubtful", "bad <b>name</b>", "mirrored", "unread", "plain"]
    browser.press("Enter")
    assert browser.run(NAMES) == by_seconds[::-1]
    browser.run("document.activeElement.blur()")
    browser.tab_to('at.textContent === "image"')
    browser.press("Enter")
    names = browser.run(NAMES)
    assert names == sorted(names, key=str.lower)
    assert browser.run('document.querySelector("#masks th").getAttribute("aria-sort")') == "ascending" and not browser.errors


def test_the_table_is_filtered_by_keys(shown):
    browser = shown(report())
    browser.tab_to('at.id === "named"')
    browser.press(*"DOUBT")
    assert browser.run(NAMES) == ["doubtful"]
    assert browser.run('document.getElementById("shown").textContent') == "1 of 6 shown"
    browser.press(*["Backspace"] * 5)
    assert len(browser.run(NAMES)) == 6
    browser.tab_to('at.id === "kind"')
    kinds = browser.run("document.activeElement.options.length")
    browser.press(*["ArrowDown"] * (kinds - 1))
    assert browser.run("document.activeElement.value") == "use as it is" and browser.run(NAMES) == ["good"]
    browser.press("ArrowUp")
    assert browser.run(NAMES) == ["plain"] and not browser.errors


def test_a_case_is_opened_and_closed_by_keys(shown):
    browser = shown(report())
    browser.tab_to('at.hash === "#case-3"')
    browser.press("Enter")
    is_open = 'document.getElementById("case-3").open'
    browser.wait_for(f'{is_open} && document.activeElement.tagName === "SUMMARY"')
    browser.press("Enter")
    browser.wait_for(f"!{is_open}")
    assert not browser.errors


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("make", [long_names, report, with_pictures, with_both_answers, comparison, trust])
def test_no_text_leaves_its_cell_and_the_page_is_no_wider_than_the_window(shown, make, width):
    browser = shown(make())
    browser.resize(width)
    browser.run(OPEN_ALL)
    assert browser.run(OVERFLOW) == {"beyond": [], "wider": 0}


def test_three_panels_and_more_get_the_width_of_the_page_and_on_a_small_screen_they_are_scrolled(shown):
    browser = shown(with_both_answers())
    browser.run(OPEN_ALL)
    wide = '[...document.querySelectorAll(".row img, .roomy img")].map(image => image.getBoundingClientRect().width)'
    browser.resize(1280)
    assert len(browser.run(wide)) == 15 and min(browser.run(wide)) > 1000, "five cases of three planes"
    browser.resize(390)
    assert min(browser.run(wide)) > 600, "each panel is seen"


@pytest.mark.parametrize(("make", "most"), [(long_names, 4), (report, 4), (with_pictures, 6), (with_both_answers, 6)])
def test_on_paper_no_column_is_cut_off_and_cases_share_pages(shown, make, most):
    browser = shown(make())
    browser.prefer(printed=True, dark=True)
    browser.resize(680)  # pixels of A4 between its margins
    browser.run(OPEN_ALL)
    assert not browser.run(CUT) and browser.run(OVERFLOW) == {"beyond": [], "wider": 0}
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "paper is white"
    paper = base64.b64decode(browser.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", paper)) <= most, "six cases"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("make", [comparison, trust, report, with_pictures, with_both_answers])
def test_axe_finds_no_violation(shown, make, dark):
    if "AXE_CORE" not in os.environ:
        pytest.skip("AXE_CORE does not say where axe.min.js of axe-core is")
    checker = Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8")
    browser = shown(make())
    browser.prefer(dark=dark)
    browser.run(OPEN_ALL)
    browser.run(checker + "; 0")
    found = browser.run("axe.run().then(said => said.violations.map(one => one.id + one.nodes.map(node => node.html)))")
    assert found == []
