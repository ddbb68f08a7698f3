"""Windows go through a network a few at a time, so that memory does not grow with their number."""

from monai_tta.compute.window_batches import windows_at_once
from tests.compute.saved_bytes import saved_while_adapting
from tests.small import TENT, image


def test_saved_memory_does_not_grow_with_the_number_of_adaptation_windows():
    """Large windows go one at a time, small ones as many as have so many voxels in total."""
    for n_at_once in (1, 2):
        few, more = (saved_while_adapting(TENT, image(size=16, n=n), voxels_at_once=n_at_once * 16**3) for n in (n_at_once, 4))
        assert more <= 1.01 * few
    assert windows_at_once(image(size=64)) == 1 and windows_at_once(image(size=32)) == 8
