"""`Shadow`: how one runs is taken over by another. What it computes is in the tests of normalisation, gradients and laws."""

from monai_tta import Statistics
from tests.small import network


def test_a_shadow_runs_as_another_does():
    given, other = (Statistics(blend=0.5).begin(network(), "softmax") for _ in range(2))
    given.precision, given.voxels_at_once, given.over_processes, given.extra = "fast", 64, True, ((1,), {"name": 2})
    given.recompute()
    other.run_like(given)
    assert (other.precision, other.voxels_at_once, other.over_processes, other.extra) == ("fast", 64, True, ((1,), {"name": 2}))
    assert other.reader is given.reader and other.recomputes == given.recomputes
