"""Which windows are adapted on, and how many the source answers to select them."""

import pytest
import torch

from monai_tta.inference.window_selection import ScoredWindow, WindowSelector, WindowShortlist, informativeness
from tests.small import image, network


def test_the_source_answers_all_of_few_windows():
    net, windows = network(), image(n=16, size=8, seed=3).split(1)
    selector, best = WindowSelector(4), WindowShortlist(4)
    for place, window in enumerate(windows, 1):
        selector.offer(window)
        best.offer(ScoredWindow(window, place, informativeness(net(window), "softmax") * float(window.std())))
    selected = selector.select(net, "softmax")
    assert len(selected) == 4 and all(torch.equal(a, c.window) for a, c in zip(selected, best.kept, strict=True))


def test_of_many_windows_the_source_answers_those_with_the_most_contrast():
    selector, answered = WindowSelector(2), []
    for k in range(40):
        selector.offer(image(size=8, seed=k) * (10 if k % 5 == 0 else 0.01))
    selector.select(lambda w: answered.extend(map(torch.std, w)) or network()(w), "softmax")
    assert len(answered) == 8 and min(answered) > 10


@pytest.mark.parametrize(("batch_freely", "batches"), [(True, [8]), (False, [2, 2, 2, 2])])
def test_small_windows_are_batched_where_the_network_is_given_nothing_that_belongs_to_single_ones(batch_freely, batches):
    selector, found = WindowSelector(2), []
    for k in range(10):
        selector.offer(image(n=2, size=8, seed=k))
    selector.select(lambda w: found.append(len(w)) or network()(w), "softmax", batch_freely)
    assert found == batches
