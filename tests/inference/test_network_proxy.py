"""What inferers of other people do with the network that they are handed: it is the proxy's, works as the network, or is refused."""

import copy
import functools
import inspect
import pickle

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer, GraTa, Source, Statistics, Tent, ViewAverage
from monai_tta.core.errors import CannotAdapt
from monai_tta.inference.network_proxy import NetworkProxy
from tests.small import FAST, NORMS, TENT, Around, image, network, run, same, state

PRESENT = Statistics(blend=1.0)


class Own(Around):
    """A network with attributes and methods of its own."""

    patch = 8
    deep_supervision = True

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.many = False

    def forward(self, x, scale=1.0):
        return self.decode(self.encode(x)) * scale

    def encode(self, x):
        return self.net[:3](x)

    def decode(self, features):
        return self.drop(self.net[3:](features))

    def predict(self, x):
        return self(x).softmax(1)

    def double_forward(self, x):
        return self.forward(x) * 2


def own():
    return Own().eval()


def asked(use, net=None, method=PRESENT, x=None, **options):
    """The answer through an inferer ``use(x, network)``, the answer of the network that it was handed at last, and the record."""
    net = own() if net is None else net
    x = image(size=8) if x is None else x
    inferer = AdaptiveInferer(method=method, inferer=use, head="softmax", **options)
    with torch.no_grad():
        answer = inferer(x, net)
    return answer, inferer.cases[-1]


def expected():
    return asked(lambda x, n: n(x))[0]


CHANGES = {  # members of nn.Module that an adapted answer could not follow, by how they are used
    "add_module": lambda n: n.add_module("more", nn.ReLU()),
    "register_module": lambda n: n.register_module("more", nn.ReLU()),
    "set_submodule": lambda n: n.set_submodule("drop", nn.Identity()),
    "train": lambda n: n.train(),
    "load_state_dict": lambda n: n.load_state_dict({k: v * 2 for k, v in n.state_dict().items()}),
    "to_empty": lambda n: (n.to_empty(device="cpu"), [p.data.fill_(3) for p in n.parameters()]),
}
SAME = {  # members that change nothing that matters to an answer
    "T_destination": lambda n: n.T_destination,
    "apply": lambda n: n.apply(lambda m: None),
    "bfloat16": lambda n: n.bfloat16().float() if False else n.float(),
    "buffers": lambda n: list(n.buffers()),
    "call_super_init": lambda n: n.call_super_init,
    "children": lambda n: list(n.children()),
    "compile": lambda n: n.compile(backend="eager"),
    "cpu": lambda n: n.cpu(),
    "double": lambda n: n.double().float(),
    "dump_patches": lambda n: n.dump_patches,
    "eval": lambda n: n.eval(),
    "extra_repr": lambda n: n.extra_repr(),
    "float": lambda n: n.float(),
    "forward": lambda n: inspect.signature(n.forward).parameters["scale"],
    "get_buffer": lambda n: n.get_buffer("net.1.running_mean").zero_ if False else n.get_buffer("net.1.running_mean"),
    "get_parameter": lambda n: n.get_parameter("net.0.weight"),
    "get_submodule": lambda n: n.get_submodule("net.0"),
    "load_state_dict of its own": lambda n: n.load_state_dict(n.state_dict()),
    "modules": lambda n: list(n.modules()),
    "named_buffers": lambda n: dict(n.named_buffers()),
    "named_children": lambda n: dict(n.named_children()),
    "named_modules": lambda n: dict(n.named_modules()),
    "named_parameters": lambda n: dict(n.named_parameters()),
    "parameters": lambda n: [p.requires_grad_(False) for p in n.parameters()],
    "register_backward_hook": lambda n: n.register_backward_hook(print),
    "register_buffer": lambda n: n.register_buffer("seen", torch.zeros(1)),
    "register_parameter": lambda n: n.register_parameter("extra", nn.Parameter(torch.zeros(1))),
    "register_full_backward_hook": lambda n: n.register_full_backward_hook(print),
    "register_full_backward_pre_hook": lambda n: n.register_full_backward_pre_hook(print),
    "register_forward_hook": lambda n: n.register_forward_hook(lambda *_: None),
    "register_forward_pre_hook": lambda n: n.register_forward_pre_hook(lambda *_: None),
    "register_load_state_dict_post_hook": lambda n: n.register_load_state_dict_post_hook(print),
    "register_load_state_dict_pre_hook": lambda n: n.register_load_state_dict_pre_hook(print),
    "register_state_dict_post_hook": lambda n: n.register_state_dict_post_hook(lambda *_: None),
    "register_state_dict_pre_hook": lambda n: n.register_state_dict_pre_hook(lambda *_: None),
    "requires_grad_": lambda n: n.requires_grad_(False),
    "share_memory": lambda n: n.share_memory(),
    "state_dict": lambda n: n.state_dict(),
    "to": lambda n: n.to("cpu", torch.float32, memory_format=torch.channels_last_3d),
    "type": lambda n: n.type(torch.float32),
    "zero_grad": lambda n: n.zero_grad(),
}
AS_THE_NETWORK = {"cuda", "ipu", "xpu", "mtia", "half", "get_extra_state", "set_extra_state"}  # see the tests of these


def test_every_public_member_of_a_module_has_a_test():
    members = {name for name in dir(nn.Module) if not name.startswith("_")}
    tested = {name.split()[0] for name in (*CHANGES, *SAME)} | AS_THE_NETWORK
    assert members - tested == set(), "a new member of torch's: say what a proxy does with it"


@pytest.mark.parametrize("member", SAME)
@pytest.mark.parametrize("returned", [False, True])
def test_what_changes_no_answer_reaches_neither_the_answer_nor_the_source(member, returned):
    """As an inferer may go on with what a member returns, such as ``network.to(device)``."""
    net = own()
    before, mode = state(net), net.training

    def use(x, handed):
        out = SAME[member](handed)
        return (out if returned and isinstance(out, nn.Module) else handed)(x)

    answer, case = asked(use, net)
    assert case.reason is None and torch.equal(answer, expected())
    assert same(before, state(net)) and net.training == mode and len(net._forward_hooks) == 0


@pytest.mark.parametrize("member", CHANGES)
def test_what_an_adapted_answer_could_not_follow_is_refused(member):
    net, given = own(), []

    def use(x, handed):
        given.append(handed)
        if not isinstance(handed, NetworkProxy):  # the caller's own: what happens to it is between the inferer and the caller
            return handed(x)
        CHANGES[member](handed)
        return handed(x)

    before = state(net)
    answer, case = asked(use, net)
    assert not case.adapted and "of the network that it is handed" in case.reason
    assert given[-1] is net and torch.equal(answer, net(image(size=8)).detach()) and same(before, state(net))


def test_a_device_that_is_not_there_is_said_as_the_network_says_it():
    if torch.cuda.is_available():
        pytest.skip("the device is there")
    with pytest.raises((RuntimeError, AssertionError)) as by_the_network:
        own().cuda()
    with pytest.raises(type(by_the_network.value)) as by_the_proxy:
        NetworkProxy(own(), None).cuda()
    assert str(by_the_proxy.value) == str(by_the_network.value)
    with pytest.raises(RuntimeError, match="extra_state"):
        NetworkProxy(own(), None).get_extra_state()
