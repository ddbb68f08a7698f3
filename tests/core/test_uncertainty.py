"""Mutual information of several answers, against cases that can be computed by hand."""

from math import log

import pytest
import torch

from monai_tta import BlendAverage, Careful, InTEnt, Source, Statistics, ViewAverage
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.uncertainty import entropy_of, largest_information, mutual_information
from monai_tta.core.views import Views
from tests.small import image, network, saved_stump

VIEWS = Views()
BLENDED = (Statistics(blend=0.0, statistics="volume"), Statistics(blend=1.0, statistics="volume"))


def of(*channels):
    """One voxel's probabilities ``(1, K, 1)``."""
    return torch.tensor(channels)[None, :, None]


def entropy(*p):
    return -sum(x * log(x) for x in p if x > 0)


def test_it_is_the_entropy_of_the_mean_minus_the_mean_entropy():
    found = mutual_information([(0.25, of(0.9, 0.1, 0.0)), (0.75, of(0.2, 0.3, 0.5))], "softmax")
    mean = (0.25 * 0.9 + 0.75 * 0.2, 0.25 * 0.1 + 0.75 * 0.3, 0.75 * 0.5)
    assert float(found) == pytest.approx(entropy(*mean) - 0.25 * entropy(0.9, 0.1) - 0.75 * entropy(0.2, 0.3, 0.5), abs=1e-6)


def test_channels_of_a_sigmoid_are_questions_of_their_own_and_add_up():
    found = mutual_information([(0.5, of(0.9, 0.2)), (0.5, of(0.1, 0.2))], "sigmoid")
    assert float(found) == pytest.approx(log(2) - entropy(0.9, 0.1), abs=1e-6), "the second channel is agreed on"
    two = mutual_information([(0.5, of(0.7)), (0.5, of(0.4))], "sigmoid")
    as_softmax = mutual_information([(0.5, of(0.7, 0.3)), (0.5, of(0.4, 0.6))], "softmax")
    assert float(two) == pytest.approx(float(as_softmax), abs=1e-6)


def test_answers_that_agree_have_none_however_unsure_they_are_and_the_largest_is_reached():
    for p, head in ((of(1 / 3, 1 / 3, 1 / 3), "softmax"), (of(0.5, 0.5), "sigmoid"), (of(1.0, 0.0), "softmax")):
        assert float(mutual_information([(0.5, p), (0.5, p)], head)) == 0
    sure = [of(1.0, 0.0, 0.0), of(0.0, 1.0, 0.0), of(0.0, 0.0, 1.0)]
    assert float(mutual_information([(1 / 3, p) for p in sure], "softmax")) == pytest.approx(largest_information(3, "softmax"))
    both = mutual_information([(0.5, of(1.0, 1.0)), (0.5, of(0.0, 0.0))], "sigmoid")
    assert float(both) == pytest.approx(largest_information(2, "sigmoid"))
    assert float(entropy_of(of(0.5, 0.5), "sigmoid")) == pytest.approx(largest_information(2, "sigmoid"))


@pytest.mark.parametrize("answers", [[], [(1.0, of(0.5, 0.5))], [(0.5, of(0.5, 0.5)), (0.5, of(float("nan"), 0.5))]])
def test_what_shows_no_disagreement_is_refused(answers):
    with pytest.raises(CannotAdapt, match="single answer|not finite"):
        mutual_information(answers, "softmax")


@pytest.mark.parametrize(
    "method, n",
    [
        (Source(), 6),
        (ViewAverage(), 6),
        (Statistics(blend=0.3), 6),
        (BlendAverage(), 36),
        (BlendAverage(statistics="window", blends=(0.2, 0.8)), 12),
        (InTEnt(), 36),
        (Careful(predictor=saved_stump("of all kinds"), candidates=BLENDED), 12),
    ],
    ids=lambda value: "" if isinstance(value, int) else type(value).__name__,
)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_weights_sum_to_one_and_their_mean_is_the_answer_averaged_over_views(method, n, head):
    net = network(dims=2, head=head)
    windows = image(2, 8, n=2)
    with torch.no_grad():
        shadow = method.begin(net, head)
        shadow.pool_statistics(windows)
        if method.learns:
            method.adapt(shadow, windows, method.loss)
        answers = list(method.single_answers(shadow, windows, VIEWS))
        _, of_views = method.answer_in_views(shadow, windows, VIEWS)
    assert len(answers) == n and sum(weight for weight, _ in answers) == pytest.approx(1)
    mean = sum(weight * p for weight, p in answers)
    assert torch.allclose(mean, torch.stack(of_views).mean(0), atol=1e-5)
    assert float(mutual_information(answers, head).max()) > 1e-4
