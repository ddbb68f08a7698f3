"""Signals of answers on phantoms: they change no answer, and what cannot be measured is a failure, not a refusal."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import compute_surface_dice
from torch import nn

from monai_tta.cli.demo import BUNDLE
from monai_tta.core.objectives import probabilities
from monai_tta.core.record import StructureQuality
from monai_tta.core.shadow import Shadow
from monai_tta.core.views import View
from monai_tta.evaluation import case_signals
from monai_tta.evaluation.case_signals import answer_signals, dice_of_views, volumes_against
from monai_tta.evaluation.compare import work
from monai_tta.evaluation.jobs import ComparisonJob
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.evaluation.trust_plan import TrustPlan, chosen_methods
from monai_tta.quality.candidates import CandidatePool, Contribution
from monai_tta.quality.signals import SIGNALS
from tests.guards.example_evidence import REFERENCE

CAUTIOUS = "Statistics, volume, blend 0.3"
OF_IMAGE = {"pairwise Dice of blends", "distance of layers"}
WINDOWS = {"pairwise Dice of views", "pairwise Dice of all views"}
OWN = {"entropy", "entropy per foreground", "max probability", "volume", "volume against reference"}


def job(data, signals=True, names=(CAUTIOUS,), numbers=(0,), checkpoint="model.pt"):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=data, only=names, metrics=("dice",), signals=signals)
    domain = protocol_of(BUNDLE).domains[0]
    return ComparisonJob(plan, checkpoint, domain, numbers, tuple(plan.contenders()), 1, 0)


def test_signals_are_measured_and_change_no_answer(phantom_set):
    plain, failures = work(job(phantom_set, signals=False))
    measured, more = work(job(phantom_set))
    assert not failures and not more and all(not row.signals for row in plain)
    assert [(row.key, row.answer, row.scores, row.reason) for row in plain] == [
        (row.key, row.answer, row.scores, row.reason) for row in measured
    ]
    source, adapted = measured
    predicted = {name for name in source.signals if name.startswith(("predicted Dice", "predicted surface", "true surface"))}
    assert {"predicted Dice", "predicted surface", "true surface 1", "true surface 2"} <= predicted
    assert set(source.signals) == OWN | WINDOWS | OF_IMAGE | predicted | {"ranking"}
    assert set(adapted.signals) == OWN | WINDOWS | predicted | {"ranking"}
    assert all(0 <= source.signals[name] <= 1 for name in WINDOWS | {"max probability", "pairwise Dice of blends"})
    assert source.signals["entropy"] != adapted.signals["entropy"]
    assert set(source.signals) - predicted == {signal.name for signal in SIGNALS if not signal.predicts}


def test_what_the_network_lacks_is_not_measured(phantom_set):
    rows, failures = work(job(phantom_set, checkpoint="model_instance.pt"))
    assert not failures
    for row in rows:  # InstanceNorm keeps no statistics to blend with, and this checkpoint has no reference of its own
        assert not {*OF_IMAGE, "volume against reference"} & set(row.signals) and set(row.signals) >= WINDOWS


def test_a_failing_measurement_is_reported_and_no_answer_passes_for_refused(phantom_set, monkeypatch):
    def fails(*_):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(case_signals, "dice_of_views", fails)
    rows, failures = work(job(phantom_set))
    assert not rows and len(failures) == 2 and all("no memory left" in line for line in failures)


def test_signals_of_a_whole_answer_by_hand():
    p = torch.zeros(1, 2, 4, 5)
    p[:, 0] = 0.9
    p[:, 1] = 0.1
    p[0, :, 1, 1:4] = torch.tensor([0.2, 0.8])[:, None]
    found = answer_signals(p, "softmax", (2.0, 0.5))
    assert found["volume"] == 3 * 2.0 * 0.5 and found["max probability"] == pytest.approx((17 * 0.9 + 3 * 0.8) / 20)
    assert "volume against reference" not in found
    assert answer_signals(p, "softmax")["volume"] == 3  # voxels


def test_volumes_are_compared_with_a_reference_that_fits_alone():
    ranges = REFERENCE.structures[0].volume
    width = ranges.high - ranges.low
    assert volumes_against([ranges.middle], REFERENCE, REFERENCE.unit) == 0
    assert volumes_against([ranges.middle + 2 * width], REFERENCE, REFERENCE.unit) == pytest.approx(2)
    assert volumes_against([ranges.middle - 2 * width], REFERENCE, REFERENCE.unit) == pytest.approx(2)
    other = "voxel" if REFERENCE.unit == "affine" else "affine"
    assert volumes_against([1.0], REFERENCE, other) is volumes_against([1.0, 2.0], REFERENCE, REFERENCE.unit) is None
    assert volumes_against([1.0], None, "voxel") is None


class Ramp(nn.Module):
    """Finds what is bright, and always a stripe along one edge: mirrored along that axis it answers otherwise."""

    def __init__(self, stripe):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.stripe = stripe

    def forward(self, x):
        found = 4 * x * self.weight
        found[:, :, : self.stripe] = 4.0
        return found


def test_views_of_a_mixture_are_the_weighted_mean_of_its_networks():
    windows = -torch.ones(1, 1, 4, 4)
    windows[..., 2:, :] = 1
    shadows = {stripe: Shadow(Ramp(stripe), "sigmoid", None) for stripe in (0, 1)}
    found = {stripe: dice_of_views(shadow, windows, (0,)) for stripe, shadow in shadows.items()}
    masks = [View(mirrors=m).undo(probabilities(shadows[1](View(mirrors=m).apply(windows)), "sigmoid")) > 0.5 for m in ((), (0,))]
    both, total = (masks[0] & masks[1]).sum(), masks[0].sum() + masks[1].sum()
    assert found[0]["pairwise Dice of views"] == 1
    assert found[1]["pairwise Dice of views"] == pytest.approx(float(2 * both / total)) and found[1]["pairwise Dice of views"] < 1
    pool = CandidatePool(Ramp(0), "sigmoid")
    assert pool.answering == ((pool, 1.0),)
    pool.contributions = [Contribution(shadows[0], True, 0.6), Contribution(shadows[1], False, 0.2)]
    mixed = dice_of_views(pool, windows, (0,))["pairwise Dice of views"]
    assert mixed == pytest.approx(0.75 + 0.25 * found[1]["pairwise Dice of views"])
    assert set(dice_of_views(shadows[0], windows, None)) == {"pairwise Dice of views"}  # nobody knows which were trained
    assert set(dice_of_views(shadows[0], windows, ())) == {"pairwise Dice of all views"}


def test_probabilities_are_taken_as_they_are_and_an_unknown_head_is_refused(monkeypatch):
    measure = object.__new__(case_signals.SignalMeasure)
    measure.windows = SimpleNamespace(take=lambda: ({"pairwise Dice of views": float("nan")}, 0.0))
    measure.reference = None
    p = torch.tensor([0.2, 0.8]).view(1, 1, 1, 2)
    case = SimpleNamespace(head="sigmoid", answers="probabilities", quality=None)
    image = MetaTensor(torch.zeros(1, 1, 2), affine=torch.eye(4))
    found, _ = measure.signals_of(p, case, image)
    assert found["max probability"] == pytest.approx(0.8) and "pairwise Dice of views" not in found  # no NaN in a column
    as_logits, _ = measure.signals_of(p, SimpleNamespace(head="sigmoid", answers="logits", quality=None), image)
    assert as_logits["max probability"] != pytest.approx(0.8)
    with pytest.raises(ValueError, match="does not show"):
        measure.signals_of(p, SimpleNamespace(head="auto", answers=None), image)


def test_the_true_surface_is_that_of_the_label_on_the_grid_of_the_answer():
    measure = object.__new__(case_signals.SignalMeasure)
    measure.windows = SimpleNamespace(take=lambda: ({}, 0.0))
    measure.reference = None
    label = torch.zeros(1, 12, 12)
    label[0, 3:9, 3:9] = 1
    found = torch.zeros(1, 12, 12)
    found[0, 3:9, 1:9] = 1  # one side is two voxels too far
    said = StructureQuality(structure=1, dice=0.9, low=0.8, high=1.0, spread=0.1, nsd=0.8, nsd_low=0.7, nsd_high=0.9, ranking=0.8)
    case = SimpleNamespace(head="sigmoid", answers="logits", quality=(said,))
    own, _ = measure.signals_of(20 * found[None] - 10, case, label, lambda: label)
    expected = compute_surface_dice(found[None], label[None], [1.0], include_background=True)
    assert own["true surface 1"] == pytest.approx(float(expected)) and own["predicted surface 1, low"] == 0.7
    unmeasured, _ = measure.signals_of(20 * found[None] - 10, case, label)
    assert "true surface 1" not in unmeasured and unmeasured["predicted surface"] == 0.8


def test_methods_by_short_names(tmp_path):
    weights = BUNDLE / "models" / "model.pt"
    assert chosen_methods([], weights) == ("Careful",) and chosen_methods([], tmp_path / "model.pt") == (CAUTIOUS,)
    assert chosen_methods(["statistics", "Tent", "careful", CAUTIOUS], weights) == (CAUTIOUS, "Tent", "Careful")
    plan = TrustPlan(root=BUNDLE, dataset_dir=tmp_path, only=("Tent",), limit=3)
    assert plan.signals and plan.metrics == ("dice",)
    assert plan.command() == "monai-tta trust hippocampus_mri --dataset-dir DATA --out OUT --method Tent --limit 3"
    with pytest.raises(ValueError, match="at least 1; found 0"):
        replace(plan, limit=0)
