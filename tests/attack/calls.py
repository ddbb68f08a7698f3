"""`AdaptiveInferer` called directly with tensors, networks and choices that make no sense."""

import threading

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from monai_tta import AdaptiveInferer
from tests.attack.arena import GIB, Attack
from tests.small import ROWS, around, image, network, state

EXPECTED = (TypeError, ValueError, RuntimeError, MemoryError, NotImplementedError)


def bits(net):
    """A network's whole state as bytes, in which NaN equals itself."""

    def raw(value):
        return value.contiguous().view(-1).view(torch.uint8).tolist() if isinstance(value, torch.Tensor) else value

    return [tuple(map(raw, entry)) for entry in state(net)]


def call(make, answered=None, stopping=(), **options):
    """Segment an odd image, or an image with an odd network, and then a good image.

    Args:
        make: ``make(x, rng)`` returns the image, or the image and the network.
        answered: whether there must be an answer (True), an error (False), or either (None).
        stopping: exceptions that may pass through.
        options: of `AdaptiveInferer`.
    """

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        row = list(ROWS.values())[int(rng.integers(len(ROWS)))]
        learn = ("volume", "window")[int(rng.integers(2))]
        chosen = {
            "roi_size": 8,
            "sw_batch_size": int(rng.integers(1, 4)),
            "overlap": 0.5,
            "method": row,
            "learn": learn,
        } | options
        return Attack(images=None, codes=(0,), memory=16 * GIB, call=lambda: _play(make, rng, chosen, answered, stopping))

    return attack


def _play(make, rng, options, answered, stopping):
    torch.manual_seed(int(rng.integers(1000)))
    good, seed = image(seed=int(rng.integers(100))), torch.random.get_rng_state()
    made = make(image(seed=1), rng)
    torch.random.set_rng_state(seed)
    x, net = made if isinstance(made, tuple) else (made, network())
    has_values = isinstance(net, nn.Module) and not any(t.is_meta for t in net.parameters())
    network_before = bits(net) if has_values else None
    image_before = x.detach().clone() if x.layout == torch.strided and x.numel() < 1e6 else None
    inferer = AdaptiveInferer(**options)
    error = None
    try:
        inferer(x, net)
    except (*EXPECTED, *stopping) as raised:
        error = raised
        assert str(error).strip() or isinstance(error, stopping), "an error without a message"
        print(type(error).__name__, str(error)[:200])
    assert answered is None or answered == (error is None), f"answered: {error!r}"
    assert torch.equal(seed, torch.random.get_rng_state()), "the caller's random numbers were used"
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled(), "the caller's switches were changed"
    if network_before is not None:
        assert network_before == bits(net), "the source was changed"
    if image_before is not None:
        torch.testing.assert_close(x.detach(), image_before, rtol=0, atol=0, equal_nan=True)
    plain = network()
    again, fresh = inferer(good, plain), AdaptiveInferer(**options)(good, plain)
    assert torch.equal(again, fresh), "an odd image changed what comes after it"


def odd(work):
    return lambda x, rng: (x, around(work))


class Failing(nn.Module):
    """A network that raises ``error`` at its call number ``at``."""

    def __init__(self, error, at):
        super().__init__()
        self.net, self.error, self.left = network(), error, [at]

    def forward(self, x):
        self.left[0] -= 1
        if self.left[0] < 0:
            raise self.error
        return self.net(x)


def fails(error):
    return lambda x, rng: (x, Failing(error, int(rng.integers(0, 30))).eval())


def _put(value):
    def make(x, rng):
        x[0, 0][torch.from_numpy(rng.random(x.shape[2:]) < rng.uniform(0.01, 0.9))] = value
        return x

    return make


def _locked(x, rng):
    net = network()
    net.lock = threading.Lock()
    return x, net


def _poisoned(value):
    def make(x, rng):
        net = network()
        with torch.no_grad():
            net[int(rng.choice([0, 1, 3, 4, 6]))].weight.view(-1)[0] = value
        return x, net

    return make


def _inference(x, rng):
    with torch.inference_mode():
        return x + 1


def _built_in_inference(x, rng):
    with torch.inference_mode():
        return x, network()


def _hooked(x, rng):
    net = network()
    net[3].register_forward_hook(lambda *a: (_ for _ in ()).throw(RuntimeError("the hook fails")))
    return x, net


def _training(x, rng):
    return x, network().train()


TENSORS = {
    "NaN throughout": call(lambda x, rng: x * float("nan"), True),
    "infinite throughout": call(lambda x, rng: x + float("inf"), True),
    "NaN in places": call(_put(float("nan")), True),
    "infinity in places": call(_put(float("inf")), True),
    "minus infinity in places": call(_put(-float("inf")), True),
    "vast numbers": call(lambda x, rng: x * 1e38, True),
    "tiny numbers": call(lambda x, rng: x * 1e-42, True),
    "constant": call(lambda x, rng: x * 0 + 5, True),
    "no batch": call(lambda x, rng: x[:0], False),
    "no voxels": call(lambda x, rng: x[..., :0], False),
    "no channels": call(lambda x, rng: x[:, :0], False),
    "one voxel": call(lambda x, rng: x[..., :1, :1, :1], True),
    "one line": call(lambda x, rng: x[..., :1, :1, :], True),
    "two channels": call(lambda x, rng: torch.cat([x, x], 1), False),
    "2D to a 3D network": call(lambda x, rng: x[..., 0], False),
    "4D to a 3D network": call(lambda x, rng: x[..., None]),
    "no dimensions": call(lambda x, rng: torch.tensor(1.0), False),
    "no batch axis": call(lambda x, rng: x[0, 0], False),
    "integers": call(lambda x, rng: x.long(), False),
    "booleans": call(lambda x, rng: x > 0, False),
    "complex": call(lambda x, rng: x.to(torch.complex64), False),
    "half": call(lambda x, rng: x.half()),
    "bfloat16": call(lambda x, rng: x.bfloat16()),
    "double": call(lambda x, rng: x.double()),
    "strided oddly": call(lambda x, rng: x.transpose(2, 4), True),
    "stretched": call(lambda x, rng: x[..., :1].expand(1, 1, 12, 12, 12), True),
    "stretched to 64 gibivoxels": call(lambda x, rng: x[..., :1, :1, :1].expand(1, 1, 4096, 4096, 4096), False),
    "wants gradients": call(lambda x, rng: x.requires_grad_(), True),
    "from inference mode": call(_inference, True),
    "sparse": call(lambda x, rng: x.to_sparse(), False),
    "on no device": call(lambda x, rng: x.to("meta")),
    "an affine of NaN": call(lambda x, rng: MetaTensor(x, affine=torch.full((4, 4), float("nan"))), True),
}
NETWORKS = {
    "error at some call": call(fails(RuntimeError("it failed"))),
    "out of memory at some call": call(fails(torch.OutOfMemoryError("CUDA out of memory"))),
    "Ctrl-C at some call": call(fails(KeyboardInterrupt()), stopping=(KeyboardInterrupt,)),
    "exit at some call": call(fails(SystemExit(7)), stopping=(SystemExit,)),
    "a bare exception at some call": call(fails(ValueError("no")), None),
    "answers None": call(odd(lambda self, x: None), False),
    "answers a word": call(odd(lambda self, x: "mask"), False),
    "answers a number": call(odd(lambda self, x: x.mean())),
    "answers nothing": call(odd(lambda self, x: ()), False),
    "answers NaN": call(odd(lambda self, x: self.net(x) * float("nan")), True),
    "answers infinity": call(odd(lambda self, x: self.net(x) + float("inf")), True),
    "answers another size": call(odd(lambda self, x: self.net(x)[..., :5])),
    "answers other sizes in turn": call(odd(lambda self, x: self.net(x)[..., : 4 + int(x.sum().abs()) % 4])),
    "answers integers": call(odd(lambda self, x: self.net(x).argmax(1, keepdim=True))),
    "answers what takes no gradient": call(odd(lambda self, x: self.net(x).detach()), True),
    "writes into its input": call(odd(lambda self, x: self.net(x.mul_(2)))),
    "holds a lock": call(_locked, True),
    "NaN in a weight": call(_poisoned(float("nan")), True),
    "infinity in a weight": call(_poisoned(float("inf")), True),
    "built in inference mode": call(_built_in_inference),
    "a failing hook": call(_hooked, False),
    "in training mode": call(_training, True),
    "a function": call(lambda x, rng: (x, lambda y: y * 2), True),
    "no network": call(lambda x, rng: (x, None), False),
    "without parameters": call(lambda x, rng: (x, nn.Identity()), True),
    "scripted": call(lambda x, rng: (x, torch.jit.script(network())), True),
    "on no device": call(lambda x, rng: (x, network().to("meta"))),
    "another inferer, learning by window": call(lambda x, rng: x, True, inferer=SimpleInferer(), learn="window"),
}
