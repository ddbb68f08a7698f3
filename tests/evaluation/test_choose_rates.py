"""Learning rates are chosen on cases that are set aside, and never on what is reported."""

import csv
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from monai_tta import STAG, Adam, GraTa, Rehearsal, Source, Statistics, Tent
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.choose_rates import FACTORS, TriedRate, grid_of, rate_trial, results_of, trial_folder, with_best_rates
from monai_tta.evaluation.compare import compare
from monai_tta.evaluation.contenders import Contender, chosen_contenders, contenders
from monai_tta.evaluation.jobs import jobs_of
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import Domain, protocol_of
from monai_tta.pipeline.bundle import BundleError
from monai_tta.reporting.rows import Key, Row, RowFile, RowsError, Score

SIMULATED = ("BiasFieldShift 3", "ContrastShift 4", "BlurNoiseShift 3")


@pytest.fixture
def four_cases(phantom_set):
    """Four source cases and two of the target."""
    rows = (phantom_set / "split.csv").read_text(encoding="utf-8")
    for number, of in ((6, 2), (7, 3)):
        for folder in ("images", "labels"):
            shutil.copy(phantom_set / folder / f"c{of}.nii.gz", phantom_set / folder / f"c{number}.nii.gz")
        rows += f"c{number},A,source_val\n"
    (phantom_set / "split.csv").write_text(rows, encoding="utf-8")
    return phantom_set


def plan_of(data, **named):
    return ComparisonPlan(root=BUNDLE, dataset_dir=data, only=("Tent",), metrics=("dice",), **named)


def test_each_row_with_a_rate_has_a_grid_around_its_own():
    for row in [*contenders(protocol_of(BUNDLE)), *chosen_contenders(protocol_of(BUNDLE), ["SAR", "MEMO", "CoTTA", "EATA"])]:
        rate, grid = row.method.lr, grid_of(row)
        assert [one for one, _ in grid] == ([rate * factor for factor in FACTORS] if rate is not None else [])
        assert [at.method.lr for _, at in grid] == [one for one, _ in grid]
        assert all(at.method.with_lr(rate) == row.method and at.choices == row.choices for _, at in grid)
    assert Source().lr is Statistics().lr is None
    with pytest.raises(ValueError, match="no learning rate"):
        Source().with_lr(1.0)
    inside = STAG(inner=Rehearsal(inner=GraTa(optimizer=Adam(lr=3e-3))))
    assert inside.lr == 3e-3 and inside.with_lr(1.0).inner.inner == GraTa(optimizer=Adam(lr=1.0))


def test_no_case_is_chosen_on_and_reported(phantom_set):
    plan = plan_of(phantom_set)
    source, target, shifted = (protocol_of(BUNDLE).domains[n] for n in (0, 1, 2))
    for domain in (source, shifted):  # the same images
        parts = [replace(plan, part=part).numbers(domain, 10) for part in ("choice", "report")]
        assert parts == [(2, 5, 8), (0, 1, 3, 4, 6, 7, 9)]
    assert replace(plan, part="report").numbers(target, 10) == tuple(range(10))
    assert replace(plan, part="report", limit=4).numbers(source, 10) == (0, 1, 3)
    assert plan.numbers(shifted, 10) == tuple(range(10))
    with pytest.raises(BundleError, match="2 cases; at least 3"):
        replace(plan, part="choice").numbers(shifted, 2)
    jobs = jobs_of(replace(plan, part="report"), set(), {shifted.label: 4, target.label: 2})
    assert {(job.domain.label, n) for job in jobs for n in job.numbers} == {
        *((shifted.label, n) for n in (0, 1, 3)),
        *((target.label, n) for n in (0, 1)),
    }


def test_the_best_rate_is_the_one_with_the_largest_change_over_all_scanners(tmp_path):
    """Hand-made rows: at ten times its rate Tent gains on one scanner and loses more on the other."""
    tent = Contender("Tent", Tent())
    changes = {0.1: (0.0, 0.0), 1.0: (0.02, 0.02), 10.0: (0.09, -0.07), 100.0: (0.02, 0.02)}
    file = RowFile(tmp_path / "rows.sqlite")
    for domain, place in (("first", 0), ("second", 1)):
        for number in range(2):
            gains = {"Source": 0.0} | {at.label: changes[f][place] for f, (_, at) in zip(FACTORS, grid_of(tent), strict=True)}
            for label, gain in gains.items():
                file.add([Row(Key("model.pt", domain, label, 4, 0, number), (Score(0.5 + gain),))])
    file.close()
    found = results_of([tent], tmp_path / "rows.sqlite", 4)
    assert [one.chosen for one in found] == [False, True, False, False]  # of equals, the smaller
    assert found[2] == TriedRate("Tent", pytest.approx(1e-3), pytest.approx(0.01), 2, 4)


def test_the_command_reports_other_cases_than_it_chose_on(four_cases, tmp_path):
    out = tmp_path / "out"
    words = [
        "compare",
        BUNDLE,
        "--dataset-dir",
        four_cases,
        "--out",
        out,
        "--only",
        "Tent",
        "--metrics",
        "dice",
        "--workers",
        "1",
    ]
    words += ["--domain", "target", "--domain", "BlurNoiseShift 3", "--choose-rates"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    with (out / "rates.csv").open(encoding="utf-8") as file:
        tried = list(csv.DictReader(file))
    assert [float(one["rate"]) for one in tried] == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])
    assert [one["cases"] for one in tried] == ["3"] * 4 and sum(one["chosen"] == "1" for one in tried) == 1
    assert keys_in(out / "choice") == {(label, 2) for label in SIMULATED}
    assert keys_in(out) == {*(("target", n) for n in (0, 1)), *(("BlurNoiseShift 3", n) for n in (0, 1, 3))}
    best = next(one for one in tried if one["chosen"] == "1")
    with closing(RowFile(out / "rows.sqlite")) as file:
        rows = {row.key.contender: row for row in file.rows()}
    added = [] if best["rate"] == "0.0001" else [f"Tent, best lr {best['rate']}"]
    assert list(rows) == ["Source", "Tent", *added]
    assert rows["Source"].backwards == 0 and rows["Tent"].backwards > 0 and rows["Tent"].forwards > rows["Source"].forwards

    plan = plan_of(four_cases)
    assert not list(compare(rate_trial(plan), trial_folder(out), 1))  # nothing is tried twice
    again = with_best_rates(plan, out)
    assert again.part == "report" and "--choose-rates" in again.command() and [row.label for row in again.more] == added
    with pytest.raises(RowsError, match="part"):
        list(compare(plan, out, 1))  # the same folder without the choice: other cases


def keys_in(folder):
    with closing(RowFile(folder / "rows.sqlite")) as file:
        return {(key.domain, key.number) for key in file.done()}


def test_without_simulated_scanners_nothing_can_be_chosen(phantom_set, bundle_copy, tmp_path):
    file = bundle_copy / "configs" / "compare.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(line for line in lines if "shift:" not in line) + "\n", encoding="utf-8")
    assert all(isinstance(domain, Domain) and domain.shift is None for domain in protocol_of(bundle_copy).domains)
    with pytest.raises(BundleError, match="no simulated scanner"):
        rate_trial(replace(plan_of(phantom_set), root=bundle_copy))
