"""What `monai-tta profile` measures, and that the ways it compares give the same answer."""

import json

import pytest
import torch
from typer.testing import CliRunner

from monai_tta import GraTa
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.cost_job import CostJob


def test_profile_of_a_bundle(tmp_path):
    file = tmp_path / "profile.json"
    words = ["profile", str(BUNDLE), "--size", "32,32,32", "--repeats", "2", "--out", str(file)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text(encoding="utf-8"))
    costs = {cost["way"]: cost for cost in found["costs"]}
    assert list(costs) == ["unadapted", "paper order", "exact", "fast"] and found["windows"] >= 1
    assert all(len(c["seconds"]) == 2 and min(c["seconds"]) > 0 and 0 < c["matrix_rate_share"] for c in costs.values())
    # One GraTa step in 3D: five forward passes without gradient, two with, two backward passes.
    assert costs["paper order"]["operations"] > 6 * costs["unadapted"]["operations"]
    assert costs["exact"]["operations"] <= costs["paper order"]["operations"]
    assert costs["paper order"]["memory"] > 0


def test_profile_refuses_a_folder_that_is_no_bundle(tmp_path):
    result = CliRunner().invoke(app, ["profile", str(tmp_path)])
    assert result.exit_code == 2 and "configs/inference.yaml" in result.output


@pytest.mark.parametrize(("bundle", "size"), [("hippocampus_mri", (32, 32, 32)), ("vessel_fundus", (256, 256))])
def test_exact_gives_the_answer_of_the_paper_order(bundle, size):
    job = CostJob(BUNDLE.parent / bundle, GraTa(), size)
    with torch.no_grad():
        paper, exact, unadapted = (job.segment_by(way)() for way in ("paper order", "exact", "unadapted"))
    torch.testing.assert_close(exact, paper, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(unadapted, paper, atol=1e-2, rtol=1e-2)
