"""The page of a comparison needs no other file, shows names as they are, and says how its rows were made."""

import base64
import re
from contextlib import closing
from html.parser import HTMLParser

import pytest

from monai_tta.reporting.example_cases import example_cases
from monai_tta.reporting.page import Picture, Plot, page
from monai_tta.reporting.plots import GAIN, LOSS, SAME
from monai_tta.reporting.render import render_comparison
from monai_tta.reporting.rows import RowFile
from monai_tta.reporting.summary import tables_of
from tests.reporting.example_rows import SETTINGS, changed, some

RUNS = {
    "2026-11-28T10:00:00.000+01:00": "monai-tta compare b --dataset-dir DATA --out OUT --only GraTa",
    "2026-11-30T11:00:00.000+01:00": "monai-tta compare b --dataset-dir DATA --out OUT",
}
MADE = SETTINGS | {
    "runs": RUNS,
    "versions": {"monai_tta": "1.2.3", "torch": "2.8"},
    "checkpoints": {"model.pt": "0123456789abcdef"},
    "domains": {"d": [4, "fedcba9876543210"]},
    "precision": "exact",
}


class Parsed(HTMLParser):
    """The addresses, tags and words of a page; fails where a tag is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.addresses = []
        self.open = []
        self.tags = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_the_page_needs_nothing_else_and_shows_names_as_they_are():
    evil = '<script>alert(1)</script> & "x" $body {{ 7 * 7 }}'
    rows = some(domain=evil)
    (table,) = tables_of(rows)
    pictures = [Picture(example, b"jpg") for example in example_cases(table, rows)]
    settings = MADE | {
        "bundle": evil,
        "runs": {"2026-11-28T10:00": evil},
        "checkpoints": {evil: evil},
        "domains": {evil: [1, evil]},
    }
    text = page([table], settings, [Plot("p", evil, b"png", table), Plot("q", evil, b"png")], pictures)
    parsed = Parsed(text)
    embedded = [f"data:image/png;base64,{base64.b64encode(content).decode()}" for content in (b"png", *[b"jpg"] * 3, b"png")]
    assert parsed.addresses == embedded and not parsed.open and not {"script", "link", "iframe"} & set(parsed.tags)
    assert not re.search(r"https?:|@import|url\(", text) and parsed.words.count(evil) > 5


def test_change_and_harm_are_in_the_first_table_and_the_rest_in_details():
    parsed = Parsed(page(tables_of(some()), MADE))
    places = [parsed.words.index(word) for word in ("Too few cases", "Legend", "mean change (points)", "All other figures", "p")]
    assert places[:4] == sorted(places[:4]) and parsed.words.index("worst tenth (points)") > places[3]
    assert parsed.tags.index("table") < parsed.tags.index("details")


def test_the_page_says_how_its_rows_were_made():
    words = Parsed(page(tables_of(some()), MADE, seeds=[0, 3])).words
    for word in ("2026-11-28 to 2026-11-30", "1.2.3", "0, 3", "0123456789abcdef", "fedcba9876543210", *RUNS.values()):
        assert word in words
    assert "date: not recorded" in Parsed(page(tables_of(some()), SETTINGS)).words


def test_the_legend_names_the_colours_of_the_plots():
    text = page(tables_of(some()), MADE)
    assert all(colour in text for colour in (GAIN, LOSS, SAME)) and "Outlines in example cases" not in text


def test_every_table_is_listed_where_there_are_several():
    parsed = Parsed(page(tables_of(some() + some(domain="e")), MADE))
    assert parsed.addresses == ["#table-1", "#table-2"]


def test_a_page_with_pictures_warns_of_pixels():
    rows = some()
    (table,) = tables_of(rows)
    assert "holds pixels" not in page([table], MADE)
    text = page([table], MADE, pictures=[Picture(example, b"png") for example in example_cases(table, rows)])
    assert "This page holds pixels of patients' images" in text.replace("&#39;", "'") and "Outlines in example cases" in text
    assert "Other, worst case (number 3, seed 0): Dice 0.700 to 0.500, -20.0 points" in text


def test_only_pictures_of_present_example_cases_are_shown(tmp_path):
    with closing(RowFile(tmp_path / "rows.sqlite")) as file:
        file.settle(MADE)
        file.add(changed({"X": [0.1, 0.2, 0.3, 0.4, 0.5]}))
    names = {
        rank: f"m_d_4_X_seed-0_case-{number}.png" for rank, number in {"worst": 0, "median": 2, "best": 4, "other": 1}.items()
    }
    (tmp_path / "pictures").mkdir()
    for rank in ("worst", "best", "other"):
        (tmp_path / "pictures" / names[rank]).write_bytes(rank.encode())
    render_comparison(tmp_path)
    text = (tmp_path / "table.html").read_text(encoding="utf-8")
    shown = [rank for rank in names if base64.b64encode(rank.encode()).decode() in text]
    assert shown == ["worst", "best"] and "X, median case" not in text


@pytest.mark.parametrize("count", [1, 14])
def test_many_labels_come_in_several_tables(count):
    rows = changed({"X": [0.1, 0.2]})
    rows = [type(r)(r.key, r.scores * count, seconds=1.0) for r in rows]
    parsed = Parsed(page(tables_of(rows), MADE | {"labels": [f"organ {k}" for k in range(count)], "metrics": ["dice"]}))
    assert parsed.tags.count("table") == (2 if count == 1 else 4)
