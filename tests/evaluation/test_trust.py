"""From rows to the report of trust: whose signals an answer has, which cases count, and what a bad case costs."""

import csv
import json
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.trust import write_trust
from monai_tta.evaluation.trust_figures import trust_cases, trust_tables, with_all_signals
from monai_tta.quality.ranking_figures import ranking_figures
from monai_tta.reporting.rows import RowFile, RowsError, Score
from monai_tta.reporting.trust_page import trust_conclusions
from monai_tta.reporting.trust_tables import ALL, UNADAPTED, interval_cells, markdown
from tests.reporting.example_rows import row

REFUSED = "the gain predictor's prefilter expects no gain"


def measured(dice, entropies, contender="Source", domain="d", reason="the method is Source: nothing adapts", **more):
    pairs = zip(dice, entropies, strict=True)
    return [
        replace(row(contender, k, (d,), domain=domain), signals={"entropy": e, **more}, reason=reason)
        for k, (d, e) in enumerate(pairs)
    ]


def tables_of(rows, lists=None, resamples=50):
    return trust_tables(with_all_signals(rows), 0.5, lists or {}, resamples)


def test_an_answer_that_was_not_adapted_has_the_signals_of_the_unadapted_one():
    plain = measured((0.9, 0.2), (0.1, 0.4), **{"distance of layers": 2.0})
    refused = replace(row("X", 0, (0.9,)), signals={"entropy": 0.1}, reason=REFUSED)
    adapted = replace(row("X", 1, (0.6,)), signals={"entropy": 0.3})
    lost = replace(row("X", 2, (0.6,)), signals={"entropy": 0.3}, reason=REFUSED)  # its unadapted answer failed
    plain[0] = replace(plain[0], signals={**plain[0].signals, "pairwise Dice of views": 0.8})
    *_, first, second, third = with_all_signals([*plain, refused, adapted, lost])
    assert first.signals == {"entropy": 0.1, "distance of layers": 2.0, "pairwise Dice of views": 0.8}
    assert second.signals == {"entropy": 0.3, "distance of layers": 2.0}  # what belongs to the image, and its own
    assert third.signals == {"entropy": 0.3}


def test_a_table_has_the_figures_of_its_cases():
    dice, entropies = (0.9, 0.8, 0.3, 0.2, 0.6), (0.1, 0.3, 0.2, 0.5, 0.4)
    (table,) = tables_of(measured(dice, entropies))
    (line,) = table.lines
    expected = ranking_figures(-np.array(entropies), dice, 0.5)  # less entropy is more confidence
    assert line.figures == vars(expected) and (line.cases, line.failed, table.failed) == (5, 2, 2)
    assert table.answer == UNADAPTED and table.adapted is None and table.mean_dice == pytest.approx(np.mean(dice))
    assert line.curve[0] == (1.0, pytest.approx(1 - np.mean(dice))) and line.curve[-1][0] == 0
    assert table.ideal_curve[-1][1] == pytest.approx(0.1)


def test_cases_without_a_structure_or_a_signal_are_left_out_and_counted():
    rows = measured((0.9, 0.4, 0.7), (0.1, 0.3, 0.2))
    rows.append(replace(row("Source", 3, (Score(nan, reason="absent"),)), signals={"entropy": 9.0}, reason="x"))
    rows[0] = replace(rows[0], signals={**rows[0].signals, "volume": 5.0})
    (table,) = tables_of(rows)
    assert (table.cases, table.left_out) == (3, 1) and {line.signal: line.cases for line in table.lines} == {
        "entropy": 3,
        "volume": 1,
    }
    text = " ".join(table.notes)
    assert "1 without any structure in the label is left out" in text and "fewer cases: volume 1." in text
    assert "1 of 3 answers (33 %) failed" in text


def test_domains_come_one_by_one_and_together_and_same_images_are_drawn_together():
    dice = np.linspace(0.2, 0.9, 8)
    entropies = (0.7, 0.5, 0.6, 0.4, 0.3, 0.35, 0.2, 0.1)
    rows = measured(dice, entropies) + measured(dice - 0.1, entropies, domain="e") + measured(dice, entropies, "X", reason=None)
    apart, together = (
        {(t.answer, t.domain): t for t in tables_of(rows, lists, 300)} for lists in ({}, {"d": "same", "e": "same"})
    )
    assert list(apart) == [(UNADAPTED, "d"), (UNADAPTED, "e"), (UNADAPTED, ALL), ("X", "d")]
    both = apart[UNADAPTED, ALL]
    assert both.cases == 16 and apart["X", "d"].adapted == 8
    widths = [np.diff(t[UNADAPTED, ALL].lines[0].intervals["spearman"])[0] for t in (apart, together)]
    assert widths[1] > 1.2 * widths[0]  # eight images seen twice are not sixteen images
    assert apart[UNADAPTED, "d"].lines[0].intervals == together[UNADAPTED, "d"].lines[0].intervals


def test_intervals_are_counted_by_structure_also_where_one_is_absent():
    columns = {"predicted Dice": 0.7, "predicted Dice 1": 0.8, "predicted Dice 1, low": 0.7, "predicted Dice 1, high": 0.9}
    columns |= {"predicted Dice 2": 0.6, "predicted Dice 2, low": 0.5, "predicted Dice 2, high": 1.0}
    rows = [
        replace(row("Source", k, scores), signals=columns, reason="x")
        for k, scores in enumerate(
            [
                (0.75, 0.4),  # inside, outside
                (0.95, Score(nan, reason="absent")),  # outside; an empty mask where nothing is counts 1: inside
                (0.9, Score(nan, reason="invented")),  # inside at its end; counts 0: outside
            ]
        )
    ]
    (table,) = tables_of(rows)
    (line,) = [line for line in table.lines if line.signal == "predicted Dice"]
    assert line.inside == pytest.approx(0.5) and sum(part.cases for part in line.parts) == 6
    assert [part.predicted for part in line.parts] == sorted(part.predicted for part in line.parts)
    assert [cell.text for cell in interval_cells(table)[-1][:2]] == ["predicted Dice, all", "6"], "structures, not cases"
    assert "50 %" in markdown([table], 0.5)
    assert all(isnan(other.inside) for other in table.lines if other.signal != "predicted Dice")
    assert interval_cells(tables_of(measured((0.9,), (0.1,)))[0]) == []


def test_a_predicted_surface_is_compared_with_the_true_surface_and_not_with_dice():
    columns = {
        "predicted surface": 0.7,
        "predicted surface 1": 0.7,
        "predicted surface 1, low": 0.6,
        "predicted surface 1, high": 0.8,
    }
    rows = [
        replace(row("Source", k, (0.7,)), signals=columns | true, reason="x")
        for k, true in enumerate([{"true surface 1": 0.65}, {"true surface 1": 0.95}, {}])
    ]
    (table,) = tables_of(rows)
    (line,) = table.lines
    assert line.inside == 0.5 and sum(part.cases for part in line.parts) == 2
    assert np.average([part.true for part in line.parts], weights=[part.cases for part in line.parts]) == pytest.approx(0.8)


def test_the_conclusion_names_the_best_signal_and_says_what_may_be_chance():
    dice = np.linspace(0.1, 0.9, 12)
    (few,) = trust_conclusions(tables_of(measured(dice[:5], 1 - dice[:5])))
    assert "too few cases to conclude (5; at least 10" in few
    rows = [replace(r, signals={**r.signals, "volume": float((7 * k) % 12)}) for k, r in enumerate(measured(dice, 1 - dice))]
    (good,) = trust_conclusions(tables_of(rows, resamples=200))
    assert good.startswith("m, unadapted answers: over 12 cases, entropy ranks best of 2 signals, with an excess of 0.00")
    assert good.endswith("1 is chance).") and "may be" not in good
    (chance,) = trust_conclusions(tables_of([replace(r, signals={"volume": r.signals["volume"]}) for r in rows], resamples=200))
    assert chance.endswith("which may be chance.")
    several = tables_of(rows + [replace(r, key=replace(r.key, domain="e")) for r in rows], resamples=200)
    assert trust_conclusions(several)[0].endswith("On 2 of 2 domains it is better than chance by itself.")


def test_rows_keep_their_signals(tmp_path):
    rows = measured((0.9, 0.2), (0.1, 0.4))
    file = RowFile(tmp_path / "rows.sqlite")
    file.add(rows)
    file.add([replace(rows[0], signals={"volume": 3.0})])  # replaces the row, and all its signals
    assert [r.signals for r in file.rows()] == [{"volume": 3.0}, {"entropy": 0.4}]
    file.close()


def test_a_folder_of_a_comparison_is_refused(tmp_path):
    with pytest.raises(RowsError, match="no rows with signals"):
        write_trust(tmp_path)
    with pytest.raises(ValueError, match="between 0 and 1, found 80"):
        write_trust(tmp_path, 80)


def test_the_command_writes_its_report_resumes_and_ends_with_3_for_a_bad_case(phantom_set, tmp_path, monkeypatch):
    def here(do, jobs, workers):  # without other processes, which take long to start
        yield from map(do, jobs)

    monkeypatch.setattr("monai_tta.evaluation.compare.in_processes", here)
    (phantom_set / "images" / "c3.nii.gz").write_bytes(b"damaged")
    words = ["trust", str(BUNDLE), "--dataset-dir", str(phantom_set), "--out", str(tmp_path / "o"), "--method", "statistics"]
    words += ["--domain", "source_val", "--limit", "2", "--budget", "1"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    assert done.exit_code == 3 and "failed: model.pt, source_val, case 1" in done.output and "Traceback" not in done.output
    said = json.loads((tmp_path / "o" / "trust.json").read_text(encoding="utf-8"))
    assert {(t["domain"], t["answer"], t["cases"]) for t in said["tables"]} == {
        ("source_val", answer, 1) for answer in (UNADAPTED, "Statistics, volume, blend 0.3")
    }
    assert said["accept"] == 0.8 and len(said["conclusions"]) == 2
    with (tmp_path / "o" / "trust.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 and all(0 <= float(line["dice anterior"]) <= 1 and float(line["entropy"]) > 0 for line in lines)
    page = (tmp_path / "o" / "trust.html").read_text(encoding="utf-8")
    assert "Trust on hippocampus_mri" in page and "monai-tta trust hippocampus_mri --dataset-dir DATA" in page
    assert (
        str(tmp_path) not in page
        and "c3.nii" not in page
        and (tmp_path / "o" / "plots" / "risk_coverage_model.pt_source_val.png").is_file()
    )
    again = CliRunner().invoke(app, [*words, "--accept", "0.1"], env={"COLUMNS": "300"})  # the bad case alone is tried again
    assert again.exit_code == 3 and json.loads((tmp_path / "o" / "trust.json").read_text(encoding="utf-8"))["accept"] == 0.1
    other = CliRunner().invoke(app, ["compare", *words[1:7], "--out", str(tmp_path / "o"), "--only", "Tent", "--metrics", "dice"])
    assert other.exit_code == 2
    refused = CliRunner().invoke(app, [*words, "--accept", "80"])
    assert refused.exit_code == 2 and "at most 1, found 80" in refused.output


def test_a_case_in_the_list_has_no_name():
    (one,) = trust_cases(with_all_signals(measured((0.9,), (0.1,))))
    assert (one.domain, one.number, one.answer, one.adapted, one.dice) == ("d", 0, UNADAPTED, False, 0.9)
