"""Tables and plots are made from rows alone; the file of rows keeps them."""

import csv
import sqlite3
from contextlib import closing
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.reporting.comparison_markdown import markdown
from monai_tta.reporting.overview import overviews
from monai_tta.reporting.render import render_comparison
from monai_tta.reporting.rows import RowFile, RowsError, Score
from monai_tta.reporting.significance import mean_interval, mean_of_numbers, paired_p
from monai_tta.reporting.summary import tables_of
from monai_tta.reporting.tables import detail_cells, group_cells, in_parts, key_cells, notes
from tests.reporting.example_rows import GAINS, SETTINGS, row, some


def figures(table, contender="Other", settings=SETTINGS):
    """The text of all cells of a contender, by the heads of their columns."""
    found = {}
    for head, *rest in (key_cells(table), detail_cells(table, settings)):
        (own,) = [r for r in rest if r[0].text == contender]
        found |= {h.text: cell.text for h, cell in zip(head, own, strict=True)}
    return found


def texts(grid):
    return [[cell.text for cell in line] for line in grid]


def test_change_and_harm_against_source_come_first():
    (table,) = tables_of(some())
    assert texts(key_cells(table)) == [
        ["contender", "mean change (points)", "95 % interval", "harmed", "worst case (points)", "mean Dice"],
        ["Source", "0.0", "-", "0 of 4 (0 %)", "0.0", "0.700"],
        ["Other", "-2.6", figures(table)["95 % interval"], "1 of 4 (25 %)", "-20.0", "0.674"],
    ]
    low, high = mean_interval(GAINS)
    assert figures(table)["95 % interval"] == f"{100 * low:+.1f} to {100 * high:+.1f}"


def test_colours_follow_the_change_by_more_than_one_point():
    third = [row("Third", k, (0.815, 0.615)) for k in range(4)]
    same = [row("Same", k, (0.809, 0.609)) for k in range(4)]
    (table,) = tables_of(some() + third + same)
    tones = {line[0].text: [cell.tone for cell in line[1:]] for line in key_cells(table)[1:]}
    assert tones == {
        "Source": [""] * 5,
        "Other": ["loss", "", "loss", "loss", ""],
        "Third": ["gain", "", "same", "gain", ""],
        "Same": ["same", "", "same", "same", ""],
    }


def test_all_domains_stand_in_one_table():
    rows = some() + some(domain="e", more=0.03)
    rows += [replace(one, key=replace(one.key, contender="Third"), seconds=3.0) for one in rows if one.key.domain == "e"][4:]
    (overview,) = overviews(tables_of(rows))
    assert overview.title == "m, all domains, 4 adaptation windows"
    assert texts(overview.grid) == [
        ["mean change (points)", "d (4)", "e (4)", "harmed", "worst case", "worst tenth", "x Source"]
        + ["windows forward", "windows backward"],
        ["Source", "0.0", "0.0", "0 of 8 (0 %)", "0.0", "0.0", "1.0", "-", "-"],
        ["Other", "-2.6", "+0.4", "2 of 8 (25 %)", "-20.0", "-20.0", "1.0", "-", "-"],
        ["Third", "-", "+0.4", "1 of 4 (25 %)", "-17.0", "-17.0", "3.0", "-", "-"],
    ]
    assert markdown(tables_of(rows), SETTINGS).index(overview.title) < markdown(tables_of(rows), SETTINGS).index("m, d, 4")
    assert overviews(tables_of(some())) == [], "one domain needs no overview"
    passed = [replace(one, forwards=10.0 + 10 * (one.key.domain == "e"), backwards=2.0) for one in rows]
    assert texts(overviews(tables_of(passed))[0].grid)[2][-2:] == ["15", "2"]


def test_the_other_figures_are_in_the_details():
    (table,) = tables_of(some())
    other = figures(table)
    assert [other[n] for n in ("Dice cyst", "Dice rim", "worst tenth (points)", "MiB")] == ["0.774", "0.574", "-20.0", "10"]
    assert other["p"] == f"{paired_p(GAINS):.3f}"
    source = figures(table, "Source")
    assert [source[n] for n in ("Dice cyst", "p", "worst tenth (points)")] == ["0.800", "-", "0.0"]
    assert {"Dice 1", "HD95 (pixels)"} <= figures(table, settings=SETTINGS | {"labels": [], "unit": "pixels"}).keys()
    assert mean_of_numbers([0.5, nan, None]) == 0.5 and isnan(mean_of_numbers([nan]))


def test_markdown_holds_the_conclusion_and_every_table():
    text = markdown(tables_of(some()), SETTINGS)
    assert text.startswith("**Conclusion (m, 4 adaptation windows):** Too few cases to conclude")
    assert "| Other |" in text and "**m, d, 4 adaptation windows (4 cases)**" in text
    assert "\\|" in markdown(tables_of(some()), SETTINGS | {"labels": ["a|b", "c"]})


def test_a_wide_table_comes_in_parts_that_all_name_the_contender():
    (table,) = tables_of(some())
    grid = detail_cells(table, SETTINGS)
    parts = in_parts(grid, most=3)
    assert all(len(part[0]) <= 4 and [line[0] for line in part] == [line[0] for line in grid] for part in parts)
    assert [cell for part in parts for cell in part[1][1:]] == grid[1][1:]
    assert in_parts(grid, most=50) == [grid] and in_parts([]) == []


def test_p_is_corrected_for_the_rows_of_a_table():
    third = [replace(r, key=replace(r.key, contender="Third")) for r in some() if r.key.contender == "Other"]
    (alone,), (both,) = tables_of(some()), tables_of(some() + third)
    assert both.lines[1].p == min(1, 2 * alone.lines[1].p)


def test_seeds_of_one_case_count_as_one_case():
    (table,) = tables_of(some() + some(seed=1, more=0.02))
    (one,) = tables_of(some(more=0.01))
    assert table.cases == 4 and table.seeds == 2
    assert table.lines[1].change == pytest.approx(one.lines[1].change)
    assert table.lines[1].interval == pytest.approx(one.lines[1].interval)
    assert figures(table)["between seeds (points)"] == "1.00" and "2 seeds" in markdown([table], SETTINGS)


def test_groups_and_notes_on_missed_invented_and_unadapted():
    (table,) = tables_of(some())
    head, _, other = group_cells(table)
    assert [cell.text for cell in head[1:]] == ["A", "B"] and other[1:] == [("+5.0", "gain"), ("-10.2", "loss")]
    for groups in ((None,) * 4, ("A",) * 4):
        assert not group_cells(tables_of(some(groups=groups))[0])
    odd = some()
    odd[-1] = replace(odd[-1], scores=(Score(0.0, 0.0, reason="missed"), Score(nan, reason="invented")), reason="constant")
    (table,) = tables_of(odd)
    text = " ".join(notes(table))
    assert "Missed masks (Dice and NSD 0, no distances): Other 1." in text and "not in the image (no score): Other 1." in text
    assert "Unadapted answers: Other 1." in text and "Kendall's tau" in text
    assert figures(table)["HD95 (mm)"] == "1.00"


def test_a_case_that_source_lacks_has_no_change():
    (table,) = tables_of([r for r in some() if (r.key.contender, r.key.number) != ("Source", 3)])
    assert len(table.lines[1].pairs) == 3 and table.lines[1].worst == pytest.approx(-0.005)
    (none,) = tables_of([r for r in some() if r.key.contender == "Other"])
    assert texts(key_cells(none))[1][1:] == ["-"] * 5 and {"-"} == {figures(none)[n] for n in ("p", "worst tenth (points)")}


def filled(folder, rows):
    folder.mkdir(exist_ok=True)
    with closing(RowFile(folder / "rows.sqlite")) as file:
        file.settle(SETTINGS | {"contenders": {"Source": "", "Other": ""}})
        file.add(rows)
    return folder


def test_tables_and_plots_need_the_rows_alone(tmp_path):
    folder = filled(tmp_path, some() + some(budget=0) + some(budget=1, more=0.03))
    result = CliRunner().invoke(app, ["tables", str(folder), "--csv"])
    assert result.exit_code == 0 and "table.html" in result.output
    text = (folder / "table.md").read_text(encoding="utf-8")
    places = [text.index(f"**m, d, {words}") for words in ("1 adaptation window ", "4 adaptation windows ", "all windows ")]
    assert places == sorted(places)
    plots = sorted((folder / "plots").glob("*.png"))
    assert len(plots) == 7 and {"budgets_m_d.png", "cases_m_d_all.png", "harm_m_d_1.png"} <= {p.name for p in plots}
    for path in plots:
        pixels = np.asarray(Image.open(path).convert("L"))
        edges = [pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]]
        assert pixels.min() < 100 and all(edge.min() > 250 for edge in edges)  # something is there, and nothing cut off
    with (folder / "rows.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 8 * 2 and lines[0]["contender"] == "Source" and lines[0]["dice"] == "0.800000"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.suffix != ".sqlite" and p.is_file()}
    render_comparison(folder)
    assert before == {p: p.read_bytes() for p in before}


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = some() + [row("Other", 4, (Score(nan, reason="absent"), Score(0.0, 0.0, reason="missed")), shift="S", severity=3)]
    with closing(RowFile(filled(tmp_path, rows) / "rows.sqlite")) as file:
        assert repr(file.rows()) == repr(rows) and file.done() == {r.key for r in rows}
        file.add([replace(rows[0], scores=rows[0].scores[:1])])  # the same key: replaced
        assert len(file.rows()) == len(rows) and len(file.rows()[0].scores) == 1
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as file:
        assert file.execute("SELECT COUNT(*) FROM scores").fetchone()[0] == 2 * len(rows) - 1
        assert file.execute("SELECT dice FROM scores WHERE reason = 'absent'").fetchone()[0] is None


def test_one_bad_row_keeps_all_rows_of_the_call_out(tmp_path):
    with closing(RowFile(tmp_path / "rows.sqlite")) as file:
        with pytest.raises(sqlite3.Error):
            file.add([some()[0], replace(some()[1], seconds=object())])
        assert not file.rows()


def test_settings_may_get_new_entries_but_not_change(tmp_path):
    with closing(RowFile(tmp_path / "rows.sqlite")) as file:
        file.settle({"unit": "mm", "checkpoints": {"a": "1"}})
        file.settle({"unit": "mm", "checkpoints": {"b": "2"}})
        assert file.settings()["checkpoints"] == {"a": "1", "b": "2"}
        for other, message in (
            ({"unit": "pixels"}, "another unit: 'mm' there"),
            ({"checkpoints": {"a": "3"}}, "checkpoints 'a'"),
        ):
            with pytest.raises(RowsError, match=message):
                file.settle(other)
        assert file.settings() == {"unit": "mm", "checkpoints": {"a": "1", "b": "2"}}


def test_a_folder_without_rows_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert result.exit_code == 2 and "has no rows.sqlite" in result.output.replace("\n", "")
    RowFile(tmp_path / "rows.sqlite").close()
    with pytest.raises(RowsError, match="no rows yet"):
        render_comparison(tmp_path)
    (tmp_path / "rows.sqlite").write_bytes(b"a photograph" * 100)
    with pytest.raises(RowsError, match="not a file of a comparison's rows"):
        render_comparison(tmp_path)
