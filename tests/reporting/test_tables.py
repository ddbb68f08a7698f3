"""What is drawn from rows alone: tables, a page that needs nothing else, plots; and the file the rows are kept in."""

import csv
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from math import isnan, nan

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.reporting.render import render_comparison
from monai_tta.reporting.rows import Key, Row, RowFile, RowsError, Score
from monai_tta.reporting.significance import mean_interval, paired_p
from monai_tta.reporting.summary import mean_of_numbers, tables_of
from monai_tta.reporting.tables import Plot, cells, group_cells, markdown, notes, page

SETTINGS = {"labels": ["cyst", "rim"], "unit": "mm", "metrics": ["dice", "nsd", "hd95", "assd"], "bundle": "b", "begun": "today"}
GAINS = (0.1, 0.0, -0.005, -0.2)


def row(contender, number, dice, seed=0, budget=4, domain="d", **named):
    scores = tuple(Score(d, d, 1.0, 0.5) if isinstance(d, float) else d for d in dice)
    return Row(Key("m", domain, contender, budget, seed, number), scores, seconds=1.0, memory=10.0, **named)


def some(budget=4, seed=0, domain="d", more=0.0, groups=("A", "A", "B", "B")):
    named = [{"group": g} for g in groups]
    of = {"seed": seed, "budget": budget, "domain": domain}
    rows = [row("Source", k, (0.8, 0.6), **of, **named[k]) for k in range(4)]
    return rows + [row("Other", k, (0.8 + g + more, 0.6 + g + more), **of, **named[k]) for k, g in enumerate(GAINS)]


def column(table, name, contender="Other"):
    head, *rest = cells(table, SETTINGS)
    return next(r for r in rest if r[0] == contender)[head.index(name)]


def test_a_table_counts_harm_against_source():
    (table,) = tables_of(some())
    found = [column(table, n) for n in ("Dice cyst", "Dice rim", "change (points)", "harmed", "worst case (points)")]
    assert found == ["0.774", "0.574", "-2.6", "25%", "-20.0"] and column(table, "worst tenth (points)") == "-20.0"
    source = [column(table, n, "Source") for n in ("Dice cyst", "change (points)", "95 % interval", "p", "harmed")]
    assert source == ["0.800", "0.0", "-", "-", "0%"]
    low, high = mean_interval(GAINS)
    assert column(table, "95 % interval") == f"{100 * low:+.1f} to {100 * high:+.1f}"
    assert column(table, "p") == f"{paired_p(GAINS):.3f}" and column(table, "MiB") == "10"
    assert {"Dice 1", "HD95 (pixels)"} <= set(cells(table, SETTINGS | {"labels": [], "unit": "pixels"})[0])
    assert "| Other |" in markdown([table], SETTINGS) and "(4 cases)" in markdown([table], SETTINGS)
    assert mean_of_numbers([0.5, nan, None]) == 0.5 and isnan(mean_of_numbers([nan]))


def test_p_is_corrected_for_the_rows_of_a_table():
    third = [replace(r, key=replace(r.key, contender="Third")) for r in some() if r.key.contender == "Other"]
    (alone,), (both,) = tables_of(some()), tables_of(some() + third)
    assert both.lines[1].p == min(1, 2 * alone.lines[1].p)


def test_seeds_of_a_case_are_one_case():
    (table,) = tables_of(some() + some(seed=1, more=0.02))
    (one,) = tables_of(some(more=0.01))
    assert table.cases == 4 and table.seeds == 2
    assert table.lines[1].change == pytest.approx(one.lines[1].change)
    assert table.lines[1].interval == pytest.approx(one.lines[1].interval)
    assert column(table, "between seeds (points)") == "1.00" and "2 seeds" in markdown([table], SETTINGS)


def test_groups_and_what_figures_hide():
    (table,) = tables_of(some())
    head, _, other = group_cells(table)
    assert head[1:] == ["A", "B"] and other[1:] == ["+5.0", "-10.2"]
    for groups in ((None,) * 4, ("A",) * 4):
        assert not group_cells(tables_of(some(groups=groups))[0])
    odd = some()
    odd[-1] = replace(odd[-1], scores=(Score(0.0, 0.0, reason="missed"), Score(nan, reason="invented")), reason="constant")
    (table,) = tables_of(odd)
    said = " ".join(notes(table))
    assert "missed (Dice and NSD 0, no distances): Other 1." in said and "not there (no score): Other 1." in said
    assert "without adaptation: Other 1." in said and "Kendall's tau" in said
    assert column(table, "HD95 (mm)") == "1.00"


def test_a_case_that_source_lacks_has_no_change():
    (table,) = tables_of([r for r in some() if (r.key.contender, r.key.number) != ("Source", 3)])
    assert len(table.lines[1].pairs) == 3 and table.lines[1].worst == pytest.approx(-0.005)
    (none,) = tables_of([r for r in some() if r.key.contender == "Other"])
    assert cells(none, SETTINGS)[1][6:12] == ["-"] * 6


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [v for k, v in attributes if k in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_shows_names_as_they_are():
    evil = '<script>alert(1)</script> & "x" $body'
    rows = some(domain=evil)
    text = page(
        tables_of(rows), SETTINGS | {"bundle": evil}, [Plot("p", evil, b"png", tables_of(rows)[0]), Plot("q", evil, b"png")]
    )
    links = Links()
    links.feed(text)
    assert links.found == ["data:image/png;base64,cG5n"] * 2 and not links.open and not links.tags & {"script", "link", "iframe"}
    assert not re.search(r"https?:|@import|url\(", text) and "&lt;script&gt;" in text and "$body" in text
    assert "\\|" in markdown(tables_of(some(domain="a")), SETTINGS | {"labels": ["a|b", "c"]})


def filled(folder, rows):
    folder.mkdir(exist_ok=True)
    with closing(RowFile(folder / "rows.sqlite")) as file:
        file.settle(SETTINGS | {"contenders": {"Source": "", "Other": ""}})
        file.add(rows)
    return folder


def test_tables_and_plots_are_drawn_from_the_rows_alone(tmp_path):
    folder = filled(tmp_path, some() + some(budget=0) + some(budget=1, more=0.03))
    result = CliRunner().invoke(app, ["tables", str(folder), "--csv"])
    assert result.exit_code == 0 and "table.html" in result.output
    text = (folder / "table.md").read_text()
    places = [text.index(f"**m, d, {words}") for words in ("1 teaching window ", "4 teaching windows ", "all windows teach ")]
    assert places == sorted(places)
    plots = sorted((folder / "plots").glob("*.png"))
    assert len(plots) == 7 and {"budgets_m_d.png", "cases_m_d_all.png", "harm_m_d_1.png"} <= {p.name for p in plots}
    for path in plots:
        pixels = np.asarray(Image.open(path).convert("L"))
        edges = [pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]]
        assert pixels.min() < 100 and all(edge.min() > 250 for edge in edges)  # something is there, and nothing cut off
    with (folder / "rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 8 * 2 and lines[0]["contender"] == "Source" and lines[0]["dice"] == "0.800000"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.suffix != ".sqlite" and p.is_file()}
    render_comparison(folder)
    assert before == {p: p.read_bytes() for p in before}


def test_rows_come_back_as_they_were(tmp_path):
    rows = some() + [row("Other", 4, (Score(nan, reason="absent"), Score(0.0, 0.0, reason="missed")), shift="S", severity=3)]
    with closing(RowFile(filled(tmp_path, rows) / "rows.sqlite")) as file:
        assert repr(file.rows()) == repr(rows) and file.done() == {r.key for r in rows}
        file.add([replace(rows[0], scores=rows[0].scores[:1])])  # again: in its place
        assert len(file.rows()) == len(rows) and len(file.rows()[0].scores) == 1
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as file:
        assert file.execute("SELECT COUNT(*) FROM scores").fetchone()[0] == 2 * len(rows) - 1
        assert file.execute("SELECT dice FROM scores WHERE reason = 'absent'").fetchone()[0] is None


def test_rows_come_in_together_or_not_at_all(tmp_path):
    with closing(RowFile(tmp_path / "rows.sqlite")) as file:
        with pytest.raises(sqlite3.Error):
            file.add([some()[0], replace(some()[1], seconds=object())])
        assert not file.rows()


def test_settings_may_grow_but_not_change(tmp_path):
    with closing(RowFile(tmp_path / "rows.sqlite")) as file:
        file.settle({"unit": "mm", "checkpoints": {"a": "1"}})
        file.settle({"unit": "mm", "checkpoints": {"b": "2"}})
        assert file.settings()["checkpoints"] == {"a": "1", "b": "2"}
        for other, said in (({"unit": "pixels"}, "another unit: 'mm' there"), ({"checkpoints": {"a": "3"}}, "checkpoints 'a'")):
            with pytest.raises(RowsError, match=said):
                file.settle(other)
        assert file.settings() == {"unit": "mm", "checkpoints": {"a": "1", "b": "2"}}


def test_what_is_no_file_of_rows_is_said(tmp_path):
    result = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert result.exit_code == 2 and "has no rows.sqlite" in result.output.replace("\n", "")
    RowFile(tmp_path / "rows.sqlite").close()
    with pytest.raises(RowsError, match="no rows yet"):
        render_comparison(tmp_path)
    (tmp_path / "rows.sqlite").write_bytes(b"a photograph" * 100)
    with pytest.raises(RowsError, match="not a file of a comparison's rows"):
        render_comparison(tmp_path)
