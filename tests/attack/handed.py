"""Networks handed on to code that does what it likes with them, that hide their layers, or that are in half precision."""

import copy
import pickle

import numpy as np
import torch
from torch import nn

from monai_tta import AdaptiveInferer, Statistics, Tent, ViewAverage
from monai_tta.inference.network_proxy import NetworkProxy
from tests.attack.arena import GIB, Attack
from tests.small import FAST, ROWS, Around, around, fitted, image, network, same, state

METHODS = (Statistics(blend=1.0), Statistics(statistics="volume"), Tent(optimizer=FAST), ViewAverage())
HARMLESS = (
    lambda n: n.to("cpu"),
    lambda n: n.eval(),
    lambda n: n.float(),
    lambda n: n.requires_grad_(False),
    lambda n: [p.requires_grad_(True) for p in n.parameters()],
    lambda n: n.zero_grad(),
    lambda n: n.load_state_dict(n.state_dict()),
    lambda n: n.apply(lambda m: None),
    lambda n: n.double().float(),
    lambda n: n.to(memory_format=torch.channels_last_3d),
    lambda n: repr(n) and list(n.modules()),
    lambda n: setattr(n, "noted", 1),
    lambda n: n.compile(),
    lambda n: n.register_forward_hook(lambda *_: None),
)
CHANGES = (
    lambda n: n.train(),
    lambda n: n.net[2].train(),
    lambda n: next(n.parameters()).data.mul_(-1),
    lambda n: n.net[1].running_var.mul_(7),
    lambda n: n.load_state_dict({k: v * 3 + 1 for k, v in n.state_dict().items()}),
    lambda n: setattr(n.net[1], "eps", 1.0),
    lambda n: setattr(n.net, "2", nn.Identity()),
    lambda n: n.net[4].register_forward_pre_hook(lambda *_: None),
    lambda n: n.add_module("more", nn.ReLU()),
    lambda n: n.net(image(size=8)),
    lambda n: [layer.forward(image(size=8)) for layer in n.net][:0],
    lambda n: pickle.dumps(n),
)
CALLS = (
    lambda n, x: n(x),
    lambda n, x: n.forward(x),
    lambda n, x: n(x=x),
    lambda n, x: n.to("cpu").eval()(x),
    lambda n, x: copy.deepcopy(n)(x),
    lambda n, x: nn.DataParallel(n)(x),
    lambda n, x: n.double()(x.double()).float(),
    lambda n, x: nn.Sequential(n)(x),
    lambda n, x: torch.cat([n(part) for part in x.split(1)]),
)


class Handed(Around):
    """A network with a forward pass that takes ``x`` by keyword."""

    def forward(self, x):
        return self.net(x)


def drawn(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def _inferer(method, inner=None):
    return AdaptiveInferer(8, 2, 0.5, method=method, inferer=inner, head="softmax")


def play(use, adapts, net=None):
    """An inferer does ``use(proxy, x, source, rng)`` with the proxy that it is handed, and ``source(x)`` with anything else.

    The source stays, and only an answer that the source does not give is recorded as adapted.
    """

    def attack(seed, folder):
        rng = np.random.default_rng(seed)

        def call():
            source = Handed().eval() if net is None else net(rng)
            x, before = image(size=8, seed=int(rng.integers(100))), state(source)
            inner = (lambda x, n: use(n, x, source, rng) if isinstance(n, NetworkProxy) else n(x)) if use else None
            run = _inferer(drawn(rng, METHODS[:3]), inner)
            with torch.no_grad():
                answer, unadapted = run(x, source), source(x)
            case = run.cases[-1]
            assert same(before, state(source)), "the source was changed"
            assert case.adapted == (not torch.equal(answer, unadapted)), f"on record: {case.reason}"
            assert adapts is None or case.adapted == adapts, f"on record: {case.reason}"
            assert case.adapted or len(case.reason.split()) > 5

        return Attack(images=None, codes=(0,), memory=16 * GIB, call=call)

    return attack


def harmless(n, x, source, rng):
    for _ in range(5):
        drawn(rng, HARMLESS)(n)
    return drawn(rng, CALLS[:5])(n, x)


def changes(n, x, source, rng):
    drawn(rng, CHANGES)(n)
    return n(x)


def hides(n, x, source, rng):
    try:
        return changes(n, x, source, rng)
    except ValueError:
        return source(x) + 1


def patched(rng):
    net = network()
    part = drawn(rng, (net, *list(net)))
    inner = part.forward
    part.forward = lambda x: inner(x)
    return net


def elsewhere(rng):
    hidden = network()
    return type("Shell", (nn.Module,), {"forward": lambda self, x: hidden(x)})().eval()


def half(seed, folder):
    rng = np.random.default_rng(seed)

    def call():
        dtype = drawn(rng, (torch.float16, torch.bfloat16))
        net, x, row = network().to(dtype), image(seed=int(rng.integers(100))).to(dtype), drawn(rng, list(ROWS))
        before, run = state(net), _inferer(fitted(row, net))
        with torch.no_grad():
            answer = run(x, net)
        assert same(before, state(net)) and answer.dtype == dtype and answer.isfinite().all()
        assert run.cases[-1].adapted == (row != "Source"), run.cases[-1].reason

    return Attack(images=None, codes=(0,), memory=16 * GIB, call=call)


def writes(seed, folder):
    rng = np.random.default_rng(seed)

    def work(self, x):
        self.seen += 1
        self.net[1].running_mean.add_(1e-3)
        return self.net(x)

    def call():
        net = around(work)
        net.register_buffer("seen", torch.zeros(1))
        calls, weights = [], net.net[1].running_mean.clone()
        net.register_forward_pre_hook(lambda module, _: calls.append(module is net) if module is net else None)
        with torch.no_grad():
            _inferer(drawn(rng, METHODS))(image(seed=int(rng.integers(100))), net)
        assert int(net.seen) == len(calls), "a shadow's pass reached a buffer of the source"
        torch.testing.assert_close(net.net[1].running_mean, weights + 1e-3 * len(calls))

    return Attack(images=None, codes=(0,), memory=16 * GIB, call=call)


def refused(make, says):
    """An image or network that gets one sentence."""

    def attack(seed, folder):
        def call():
            x, net = make(image(seed=seed))
            try:
                _inferer(METHODS[seed % 4])(x, net)
            except (TypeError, ValueError) as error:
                assert says in str(error) and "\n" not in str(error), error
            else:
                raise AssertionError("it was answered")

        return Attack(images=None, codes=(0,), call=call)

    return attack


FAMILY = {
    "read, moved and called": play(harmless, True),
    "called in some way": play(lambda n, x, source, rng: drawn(rng, CALLS)(n, x), True),
    "changed and called": play(changes, False),
    "changed, and the refusal hidden": play(hides, False),
    "never called": play(lambda n, x, source, rng: source(x), False),
    "called, and the source asked": play(lambda n, x, source, rng: (n(x), source(x))[1], False),
    "called, and a layer of the source": play(lambda n, x, source, rng: (n.eval()(x), source.net(x))[1], False),
    "mixed with the source": play(lambda n, x, source, rng: 0.5 * (n(x) + source(x)), True),
    "a forward pass or a layer in a closure": play(None, None, patched),
    "a network that holds nothing": play(None, False, elsewhere),
    "in half precision": half,
    "writing to its buffers": writes,
    "a numpy image": refused(lambda x: (x.numpy(), network()), "numpy.ndarray; give a float tensor"),
    "a list of numbers": refused(lambda x: (x.tolist(), network()), "builtins.list; give a float tensor"),
    "a float64 image": refused(lambda x: (x.double(), network()), "image is torch.float64 and the weights of"),
    "a float16 image": refused(lambda x: (x.half(), network()), "image is torch.float16 and the weights of"),
    "a classifier": refused(
        lambda x: (x, nn.Sequential(network(), nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()), "classifies whole images"
    ),
}
