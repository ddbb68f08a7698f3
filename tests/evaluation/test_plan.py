"""What the rows of one folder must have in common."""

import pytest

from monai_tta.evaluation.plan import ComparisonPlan


@pytest.mark.parametrize(
    ("name", "signals"),
    [
        ("model.pt", False),
        ("gain_predictor.npz", False),
        ("learned_optimizer.npz", False),
        ("rehearsal.npz", False),
        ("fisher.npz", False),
        ("reference.json", True),
        ("quality_predictor.npz", True),
    ],
)
def test_a_file_beside_the_weights_that_changes_is_another_setting(name, signals, bundle_copy, tmp_path):
    plan = ComparisonPlan(root=bundle_copy, dataset_dir=tmp_path, signals=signals)
    file = bundle_copy / "models" / name
    file.write_bytes(b"one")
    before = plan.settings()
    assert plan.settings() == before
    file.write_bytes(b"two")
    after = plan.settings()
    assert {what for what in after if after[what] != before[what]} == {"checkpoints"}
    assert {one for one in after["checkpoints"] if after["checkpoints"][one] != before["checkpoints"][one]} == {name}


def test_masks_depend_on_no_file_that_only_signals_read(bundle_copy, tmp_path):
    plan = ComparisonPlan(root=bundle_copy, dataset_dir=tmp_path)
    before = plan.settings()
    for name in ("reference.json", "quality_predictor.npz"):
        (bundle_copy / "models" / name).write_bytes(b"another")
    assert plan.settings() == before
