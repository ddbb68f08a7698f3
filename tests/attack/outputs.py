"""Networks that return several outputs or probabilities, and norm layers in odd places, compared with the right answer."""

import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer, Consistency, GraTa, Statistics, Tent, ViewAverage
from monai_tta.core.objectives import probabilities
from tests.attack.arena import Attack
from tests.core.test_norm_uses import Pooled, Shared, made
from tests.small import FAST, image, network, same, state

Pair = namedtuple("Pair", "first second")
METHODS = (
    Statistics(statistics="volume"),
    Statistics(blend=0.5),
    Tent(optimizer=FAST),
    Tent(optimizer=FAST, statistics="volume"),
    Consistency(optimizer=FAST),
    GraTa(optimizer=FAST),
)


class With(nn.Module):
    """A network around another, which makes something of its answer."""

    def __init__(self, net, make):
        super().__init__()
        self.net, self.make = net, make

    def forward(self, x):
        return self.make(self.net(x))


def answer(net, x, **options):
    """An answer without gradient, and its record."""
    inferer = AdaptiveInferer(**options)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return inferer(x, net), inferer.cases[-1]


def play(find):
    """An attack that draws dimensions, method, head and image, and then asks ``find`` for the promises that were broken."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        dims, head = int(rng.integers(2, 4)), ("softmax", "sigmoid")[int(rng.integers(2))]
        method = METHODS[int(rng.integers(len(METHODS)))]
        x = image(dims, size=int(rng.integers(8, 15)), seed=int(rng.integers(100)))
        return Attack(play=lambda: find(rng, dims, head, method, x))

    return attack


def differs(found, expected, what, atol=1e-3):
    """A broken promise where two answers are not the same up to rounding."""
    if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
        return [f"{what}: {type(found).__name__} {getattr(found, 'shape', '')} in place of {tuple(expected.shape)}"]
    gap = float((found - expected).abs().max())
    return [] if gap <= atol * max(1.0, float(expected.abs().max())) else [f"{what}: differs by {gap:.3g}"]


def container(make, name=None):
    """The main output of a container is what the network without other outputs answers."""

    def find(rng, dims, head, method, x):
        options = {"roi_size": 8, "overlap": 0.5, "sw_batch_size": int(rng.integers(1, 4)), "method": method, "head": head}
        plain = network(dims=dims, head=head)
        several = With(network(dims=dims, head=head), make).eval()
        before = state(several)
        expected, _ = answer(plain, x, **options)
        found, case = answer(several, x, main_output=name, main_only=True, **options)
        broken = differs(found, expected, "the main output") + ([] if case.adapted else [f"not adapted: {case.reason}"])
        return broken + ([] if same(before, state(several)) else ["the source was changed"])

    return play(find)


def kept(make, inner):
    """Without ``main_only`` the container is the inner inferer's."""

    def find(rng, dims, head, method, x):
        net = With(network(dims=dims, head=head), make).eval()
        found, case = answer(net, x, inferer=inner, method=method, head=head)
        with torch.no_grad():
            expected = inner(x, net)
        keys = list(expected) if isinstance(expected, dict) else list(range(len(expected)))
        sizes = [tuple(expected[key].shape) for key in keys]
        if type(found) is not type(expected) or sizes != [tuple(found[key].shape) for key in keys]:
            return [f"{type(found).__name__} in place of {type(expected).__name__}"]
        return [] if case.adapted else [f"not adapted: {case.reason}"]

    return play(find)


def unclear(make, words):
    """An unclear main output is not adapted, and the record says why; where masks are made of it, it is an error."""

    def find(rng, dims, head, method, x):
        net = With(network(dims=dims, head=head), make).eval()
        _, case = answer(net, x, inferer=SimpleInferer(), method=method, head=head)
        broken = [] if case.reason is not None and words in case.reason else [f"recorded as {case.reason!r}"]
        try:
            answer(net, x, inferer=SimpleInferer(), method=method, head=head, main_only=True)
        except ValueError as error:
            return broken + ([] if words in str(error) else [f"said {error}"])
        return [*broken, "made an answer of it"]

    return play(find)


def ending(make):
    """A network of probabilities adapts as the logits inside it do; ``make`` is for (logits, head)."""

    def find(rng, dims, head, method, x):
        options = {"method": method if x.shape[-1] == x.shape[-2] else METHODS[0], "head": head}
        logits, _ = answer(network(dims=dims, head=head), x, **options)
        net = With(network(dims=dims, head=head), lambda found: make(found, head)).eval()
        found, case = answer(net, x, **options)
        broken = [] if case.answers == "probabilities" and case.adapted else [f"recorded as {case.answers}, {case.reason}"]
        return broken + differs(found, probabilities(logits, head), "probabilities", 5e-3)

    return play(find)


def still_logits(make):
    """Numbers in [0, 1] that are no probabilities are taken for what they are."""

    def find(rng, dims, head, method, x):
        net = With(network(dims=dims, head=head), make).eval()
        _, case = answer(net, x, method=method, head=head)
        return [] if case.answers == "logits" else [f"recorded as {case.answers}"]

    return play(find)


def shared(rng, dims, head, method, x):
    """Statistics pooled over one window are that window's own, at each place of a shared layer."""
    net, blend = made(Shared, dims), float(rng.uniform(0.1, 1))
    volume, window = (answer(net, x, method=Statistics(statistics=which, blend=blend)) for which in ("volume", "window"))
    return differs(volume[0], window[0], "a shared layer") + ([] if volume[1].adapted else [f"not adapted: {volume[1].reason}"])


def pooling(rng, dims, head, method, x):
    """Behind a global pooling the source's statistics stay, and the rest adapts."""
    found, case = answer(made(Pooled, dims), x, roi_size=8, overlap=0.5, method=method)
    broken = [] if case.adapted and case.n_kept_source == 1 else [f"{case.n_kept_source} kept, {case.reason}"]
    return broken + ([] if bool(found.isfinite().all()) else ["not finite"])


def averaged(rng, dims, head, method, x):
    """View averaging of probabilities gives probabilities."""
    x = image(dims, size=8)
    logits, _ = answer(network(dims=dims, head=head), x, method=ViewAverage(), head=head)
    net = With(network(dims=dims, head=head), lambda found: probabilities(found, head)).eval()
    return differs(answer(net, x, method=ViewAverage(), head=head)[0], probabilities(logits, head), "a mean of views")


def half_size(found):
    return nn.functional.interpolate(found, scale_factor=0.5)


FAMILY = {
    "a pair": container(lambda found: (found, found.flip(1))),
    "a list of one": container(lambda found: [found]),
    "a list in a pair": container(lambda found: ([found, found.flip(1)], None)),
    "small ones first": container(lambda found: (half_size(half_size(found)), half_size(found), found)),
    "nothing beside it": container(lambda found: (found, None)),
    "an ordered dictionary": container(lambda found: OrderedDict(aux=found.flip(1), out=found)),
    "a dictionary with features": container(lambda found: {"z": half_size(found), "y": found}),
    "a named pair": container(lambda found: Pair(found.flip(1), found), name="second"),
    "the last by its number": container(lambda found: (found.flip(1), found), name=-1),
    "a class of a dictionary": container(lambda found: {"liver": found, "tumour": found.flip(1)}, name="liver"),
    "a pair stays a pair": kept(lambda found: (found, half_size(found)), SimpleInferer()),
    "a pair in windows": kept(lambda found: (found, found.flip(1)), SlidingWindowInferer(8, 2, 0.5)),
    "a dictionary in windows": kept(lambda found: {"b": found, "out": found.flip(1)}, SlidingWindowInferer(8, 1, 0.25)),
    "a dictionary of classes": unclear(lambda found: {"liver": found, "tumour": found.flip(1)}, "name it"),
    "two usual names": unclear(lambda found: {"out": found, "pred": found.flip(1)}, "name it"),
    "probabilities": ending(probabilities),
    "probabilities in place": ending(lambda found, head: found.clone().copy_(probabilities(found, head))),
    "probabilities by exponentials": ending(
        lambda found, head: found.log_softmax(1).exp() if head == "softmax" else 1 - (-found).sigmoid()
    ),
    "logits in the unit interval": still_logits(lambda found: 0.5 + 0.01 * found.tanh()),
    "logits between nothing and one": still_logits(lambda found: found.abs() / (1 + found.abs().amax())),
    "a shared norm layer": play(shared),
    "a norm behind a global pooling": play(pooling),
    "a mean of views of probabilities": play(averaged),
}
