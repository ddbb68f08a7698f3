"""Reference ranges survive a file, refuse mixed cases, and contain the cases that they come from."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_tta.guards import ReferenceRanges, ranges_of_cases, read_reference_ranges
from monai_tta.guards.reference_ranges import CaseFigures
from tests.guards.example_evidence import REFERENCE


def test_reference_ranges_are_written_and_read_back(tmp_path):
    assert ReferenceRanges.from_json(REFERENCE.to_json()) == REFERENCE
    with_inputs = json.dumps(json.loads(REFERENCE.to_json()) | {"inputs": {"limit": 1}})
    assert ReferenceRanges.from_json(with_inputs) == REFERENCE, "what input checks need may stand in the same file"
    (tmp_path / "good.json").write_text(REFERENCE.to_json(), encoding="utf-8")
    assert read_reference_ranges(tmp_path / "good.json") == REFERENCE
    (tmp_path / "bad.json").write_text("[1]", encoding="utf-8")
    for name in ("none.json", "bad.json"):
        with pytest.raises(ValueError, match=f"{name}.*monai-tta reference"):
            read_reference_ranges(tmp_path / name)
    with pytest.raises(ValueError, match="at least one"):
        ranges_of_cases([], False)
    with pytest.raises(ValueError, match="cases differ"):
        ranges_of_cases([CaseFigures((), 0.1, (), "voxel"), CaseFigures((), 0.1, (0.2,), "voxel")], False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), st.floats(0, 3))
def test_slack_only_widens_a_range(values, slack):
    quantiles = ranges_of_cases([CaseFigures((), v, (), "voxel") for v in values], False).entropy
    low, high = quantiles.limits(slack)
    assert low <= quantiles.low <= quantiles.middle <= quantiles.high <= high
