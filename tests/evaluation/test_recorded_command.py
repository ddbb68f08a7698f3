"""The command and date of each run are kept with its rows."""

import shlex
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from html import unescape

import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.compare import compare
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.reporting.render import render_comparison
from monai_tta.reporting.rows import RowFile


def test_every_run_that_adds_rows_is_recorded_with_its_command(phantom_set, tmp_path):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, only=("View average",), domains=("target",), metrics=("dice",))
    for seeds in ((0,), (0,), (0, 1)):  # the second run has nothing to do
        list(compare(replace(plan, seeds=seeds), tmp_path / "o", 1))
    with closing(RowFile(tmp_path / "o" / "rows.sqlite")) as file:
        runs = file.settings()["runs"]
    command = "monai-tta compare hippocampus_mri --dataset-dir DATA --out OUT --only 'View average' --domain target"
    assert list(runs.values()) == [f"{command} --metrics dice", f"{command} --seed 0 --seed 1 --metrics dice"]
    assert all(datetime.fromisoformat(time).tzinfo for time in runs)
    text = unescape(render_comparison(tmp_path / "o")[1].read_text(encoding="utf-8"))
    assert all(command in text for command in runs.values())


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"only": ("Tent", "GraTa, 4 steps"), "domains": ("target", "BiasFieldShift 3"), "severities": (1, 5), "ablations": True},
        {"checkpoints": ("model.pt", "model_instance.pt"), "budgets": (0, 4), "seeds": (2, 3), "pictures": True},
        {"metrics": ("dice", "nsd"), "precision": "fast"},
    ],
)
def test_the_recorded_command_makes_the_same_plan(named, phantom_set, tmp_path, monkeypatch):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, **named)
    plans = []
    monkeypatch.setattr("monai_tta.evaluation.compare.compare", lambda made, *_: plans.append(made) or iter(()))
    places = {"DATA": str(phantom_set), "OUT": str(tmp_path), BUNDLE.name: str(BUNDLE)}
    words = [places.get(word, word) for word in shlex.split(plan.command())]
    CliRunner().invoke(app, words[1:])
    assert plans == [plan]
