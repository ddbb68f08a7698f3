"""The evaluation protocol, on phantoms: rows, tables, what counts as harm, and going on past a domain that fails."""

import csv
from math import isnan, nan

import pytest
import torch
from typer.testing import CliRunner

from monai_tta import compare as module
from monai_tta.bundle import BundleError
from monai_tta.cli import app
from monai_tta.compare import dice, labelled, score, scoring
from monai_tta.demo import BUNDLE
from monai_tta.methods import __all__ as exported
from monai_tta.protocol import Domain, chosen_contenders, contenders, protocol_of
from monai_tta.tables import Row, markdown, mean_of_numbers, write_rows

FEW = ("Source", "View average", "Statistics, window, blend 1.0", "GraTa, continual")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(module, "chosen_contenders", lambda p, only: chosen_contenders(p, FEW))


def test_every_method_and_control_is_in_the_protocol():
    labels = [c.label for c in contenders(protocol_of(BUNDLE))]
    assert len(set(labels)) == len(labels) > 15
    assert {type(c.method).__name__ for c in contenders(protocol_of(BUNDLE))} == set(exported)
    assert [c.label for c in chosen_contenders(protocol_of(BUNDLE), ["Tent"])] == ["Source", "Tent"]
    for name in (b.name for b in BUNDLE.parent.glob("*") if (b / "configs" / "compare.yaml").is_file()):
        assert protocol_of(BUNDLE.parent / name).labels


@pytest.mark.parametrize(
    "bundle", sorted(p.parents[1] for p in BUNDLE.parent.glob("*/configs/compare.yaml")), ids=lambda p: p.name
)
def test_protocols_name_shifts_that_exist(bundle):
    for domain in protocol_of(bundle).domains:
        if domain.shift:
            assert module.locate(domain.shift)(domain.severity, 0).severity == domain.severity


def test_scores_of_a_domain(few, phantom_set):
    plain = score(BUNDLE, phantom_set, "model.pt", Domain("val", {"split": "source_val"}))
    assert [r.contender for r in plain] == [c for c in FEW for _ in range(2)]
    assert {r.case for r in plain} == {0, 1} and all(len(r.dice) == 2 and 0 <= min(r.dice) for r in plain)
    assert all(r.reason is None and r.seconds > 0 for r in plain)


def test_the_scanner_stands_before_the_normalisation(phantom_set):
    own, domain = protocol_of(BUNDLE).domains[0], protocol_of(BUNDLE).domains[2]
    plain, case, again = (next(labelled(scoring(BUNDLE, phantom_set, d), d, protocol_of(BUNDLE))) for d in (own, domain, domain))
    assert torch.equal(case["image"], again["image"]) and torch.equal(case["label"], plain["label"])
    assert not torch.allclose(case["image"], plain["image"], atol=0.05)
    assert abs(float(case["image"].mean())) < 1e-4 and float(case["image"].std()) == pytest.approx(1, abs=1e-3)


def test_dice_by_hand():
    pred, label = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    pred[1, :2], label[1, :1] = 1, 1
    pred[0], label[0] = 1 - pred[1], 1 - label[1]
    first, second = dice({"pred": pred, "label": label})
    assert first == pytest.approx(2 * 4 / (8 + 4)) and isnan(second)
    nested = dice({"pred": torch.stack([pred[1], pred[1]]), "label": torch.stack([label[1], pred[1]])})
    assert nested == pytest.approx((2 / 3, 1.0))
    assert mean_of_numbers([0.5, nan]) == 0.5 and isnan(mean_of_numbers([nan]))


def test_table_counts_harm_against_source(tmp_path):
    rows = [Row("m", "d", "Source", k, (0.8, 0.6), 1.0, None) for k in range(4)]
    rows += [Row("m", "d", "Other", k, (0.8 + gain, 0.6 + gain), 2.0, None) for k, gain in enumerate((0.1, 0.0, -0.005, -0.2))]
    line = next(line for line in markdown(rows).split("\n") if line.startswith("| Other"))
    assert [cell.strip() for cell in line.split("|")[2:7]] == ["0.774", "0.574", "-2.6", "25%", "-20.0"]
    own = next(line for line in markdown(rows, ["cyst", "rim"]).split("\n") if line.startswith("| Source"))
    assert [cell.strip() for cell in own.split("|")[2:7]] == ["0.800", "0.600", "0.0", "0%", "0.0"]
    assert "| Dice 1 | Dice 2 |" in markdown(rows) and "| Dice cyst | Dice rim |" in markdown(rows, ["cyst", "rim"])
    assert "| - |" in markdown([Row("m", "d", "Source", 0, (0.5, nan), 1.0, None)]) and "(4 cases)" in markdown(rows)
    write_rows(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        assert [r["dice"] for r in csv.DictReader(file)][4] == "0.900000 0.700000"


def test_missing_data_and_protocols_are_named(tmp_path, phantom_set):
    with pytest.raises(BundleError, match="no case for 'x'"):
        domain = Domain("x", {"split": "nowhere"})
        list(labelled(scoring(BUNDLE, phantom_set, domain), domain, protocol_of(BUNDLE)))
    with pytest.raises(BundleError, match="no configs/compare.yaml"):
        protocol_of(tmp_path)
    words = ["compare", str(BUNDLE), "--dataset-dir", str(tmp_path), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, [*words, "--domain", "Mars"])
    assert result.exit_code == 2 and "no domain 'Mars'" in result.output
    result = CliRunner().invoke(app, [*words, "--only", "Telepathy"])
    assert result.exit_code == 2 and "no row 'Telepathy'" in result.output and "Tent;" in result.output
    result = CliRunner().invoke(app, [*words, "--only", "Tent"])
    assert result.exit_code == 3 and "failed: model.pt, source_val" in result.output and "Traceback" not in result.output
