"""What inferers of other people do with the network that they are handed: it works as the network would, or is refused."""

import copy
import inspect
import pickle

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer, Source, Statistics
from monai_tta.core.errors import CannotAdapt
from monai_tta.inference.network_proxy import NetworkProxy
from tests.small import TENT, Around, image, network, same, state

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
        return self.net[2](self.net[1](self.net[0](x)))

    def decode(self, features):
        for layer in self.net[3:]:
            features = layer(features)
        return self.drop(features)

    def predict(self, x):
        return self(x).softmax(1)

    def doubled(self, x):
        return 2 * self.forward(x)


def own():
    return Own().eval()


def asked(use, net=None, method=PRESENT, x=None, **options):
    """The answer through an inferer ``use(x, network)``, and its record."""
    inferer = AdaptiveInferer(method=method, inferer=use, **{"head": "softmax"} | options)
    with torch.no_grad():
        answer = inferer(image(size=8) if x is None else x, own() if net is None else net)
    return answer, inferer.cases[-1]


def adapted():
    """The adapted answer, through an inferer that only calls the network."""
    return asked(SimpleInferer())[0]


SAME = {  # members of nn.Module that change nothing that matters to an answer, by how they are used
    "T_destination": lambda n: n.T_destination,
    "apply": lambda n: n.apply(lambda m: None),
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
    "get_buffer": lambda n: n.get_buffer("net.1.running_mean"),
    "get_parameter": lambda n: n.get_parameter("net.0.weight"),
    "get_submodule": lambda n: [n.get_submodule("net.0")],
    "load_state_dict": lambda n: n.load_state_dict(n.state_dict()),
    "modules": lambda n: list(n.modules()),
    "named_buffers": lambda n: dict(n.named_buffers()),
    "named_children": lambda n: dict(n.named_children()),
    "named_modules": lambda n: dict(n.named_modules()),
    "named_parameters": lambda n: dict(n.named_parameters()),
    "parameters": lambda n: [p.requires_grad_(False) for p in n.parameters()],
    "register_backward_hook": lambda n: n.register_backward_hook(print),
    "register_buffer": lambda n: n.register_buffer("seen", torch.zeros(1)),
    "register_forward_hook": lambda n: n.register_forward_hook(lambda *_: None),
    "register_forward_pre_hook": lambda n: n.register_forward_pre_hook(lambda *_: None),
    "register_full_backward_hook": lambda n: n.register_full_backward_hook(print),
    "register_full_backward_pre_hook": lambda n: n.register_full_backward_pre_hook(print),
    "register_load_state_dict_post_hook": lambda n: n.register_load_state_dict_post_hook(print),
    "register_load_state_dict_pre_hook": lambda n: n.register_load_state_dict_pre_hook(print),
    "register_parameter": lambda n: n.register_parameter("extra", nn.Parameter(torch.zeros(1))),
    "register_state_dict_post_hook": lambda n: n.register_state_dict_post_hook(lambda *_: None),
    "register_state_dict_pre_hook": lambda n: n.register_state_dict_pre_hook(lambda *_: None),
    "requires_grad_": lambda n: n.requires_grad_(False),
    "share_memory": lambda n: n.share_memory(),
    "state_dict": lambda n: n.state_dict(),
    "to": lambda n: n.to("cpu", torch.float32, memory_format=torch.channels_last_3d),
    "type": lambda n: n.type(torch.float32),
    "zero_grad": lambda n: n.zero_grad(),
}
NO_PLACE = {"cuda", "ipu", "xpu", "mtia", "get_extra_state", "set_extra_state"}  # raise what the network's own raise
DTYPES = {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}
REFUSED = {  # what an adapted answer could not follow, by what is said
    "add_module": (lambda n: n.add_module("more", nn.ReLU()), "layers"),
    "register_module": (lambda n: n.register_module("more", nn.ReLU()), "layers"),
    "set_submodule": (lambda n: n.set_submodule("drop", nn.Identity()), "replaces layer drop"),
    "a layer set": (lambda n: setattr(n, "drop", nn.Identity()), "replaces layer drop"),
    "a layer deleted": (lambda n: delattr(n, "drop"), "layers"),
    "train": (lambda n: n.train(), "the network in training mode"),
    "train of a layer": (lambda n: n.drop.train(), "layer drop in training mode"),
    "load_state_dict": (lambda n: n.load_state_dict({k: v + 1 for k, v in n.state_dict().items()}), "other weights"),
    "to_empty": (lambda n: [p.data.fill_(3) for p in n.to_empty(device="cpu").parameters()], "other weights"),
    "weights written": (lambda n: next(n.parameters()).data.mul_(2), "other weights"),
    "statistics forgotten": (lambda n: n.net[1].running_mean.add_(1), "other weights"),
    "rounded weights": (lambda n: n.half().float(), "other weights"),
    "a hook on a layer": (lambda n: n.net[0].register_forward_hook(lambda *_: None), "a hook on layer net.0"),
    "an attribute": (lambda n: setattr(n, "many", True), "sets 'many' of the network"),
    "an attribute of the class": (lambda n: setattr(n, "deep_supervision", False), "sets 'deep_supervision'"),
    "an attribute of a layer": (lambda n: setattr(n.net[1], "momentum", 0.9), "sets 'momentum' of layer net.1"),
    "a layer run": (lambda n: n.net[0](image(size=8)), "runs a part of the network by itself (net.0)"),
    "a layer's forward": (lambda n: n.net[0].forward(image(size=8)), "runs a part of the network by itself (net.0)"),
    "all layers run": (lambda n: n.decode(n.encode(image(size=8))), "runs a part of the network by itself"),
    "pickle": (lambda n: pickle.dumps(n), "another process"),
    "a copy with a hook": (lambda n: (n.register_forward_hook(print), copy.deepcopy(n)), "and copies it"),
}


def test_every_public_member_of_a_module_has_a_test():
    members = {name for name in dir(nn.Module) if not name.startswith("_")}
    assert members - {*SAME, *REFUSED, *NO_PLACE, *DTYPES} == set(), "a new member of torch's: say what a proxy does with it"


@pytest.mark.parametrize("method", [PRESENT, TENT], ids=["statistics", "tent"])
@pytest.mark.parametrize("member", SAME)
def test_what_changes_no_answer_reaches_neither_the_answer_nor_the_source(member, method):
    """An inferer may go on with what a member returns, as with ``network.to(device)``, or with what it was handed."""
    net = own()
    before = state(net)

    def use(x, handed):
        out = SAME[member](handed)
        first = (out if isinstance(out, nn.Module) else handed)(x)
        assert torch.equal(first, handed(x))
        return first

    answer, case = asked(use, net, method)
    assert case.reason is None and torch.equal(answer, asked(SimpleInferer(), method=method)[0])
    assert same(before, state(net)) and not net.training and not net._forward_hooks and not net._buffers


@pytest.mark.parametrize("way", REFUSED)
@pytest.mark.parametrize("hides", [False, True])
def test_what_an_adapted_answer_could_not_follow_is_refused(way, hides):
    net, handed_over = own(), []
    before = state(net)
    use_it, said = REFUSED[way]

    def use(x, handed):
        handed_over.append(handed)
        if not isinstance(handed, NetworkProxy):  # the caller's own: what happens to it is between the inferer and the caller
            return handed(x)
        try:
            use_it(handed)
            return handed(x)
        except CannotAdapt:
            if hides:
                return handed(x) if "run" in way else x.expand(-1, 3, -1, -1, -1)
            raise

    answer, case = asked(use, net)
    assert not case.adapted and said in case.reason, case.reason
    assert handed_over[-1] is net and torch.equal(answer, net(image(size=8)).detach()) and same(before, state(net))


@pytest.mark.parametrize("name", DTYPES)
def test_a_network_put_into_another_dtype_answers_in_that(name):
    net, dtype = own(), DTYPES[name]
    before = state(net)
    answer, case = asked(lambda x, n: getattr(n, name)()(x.to(dtype)), net)
    assert case.reason is None and answer.dtype == dtype and same(before, state(net))
    torch.testing.assert_close(answer.float(), adapted().to(dtype).float(), rtol=1e-2, atol=2e-2)


def test_what_the_machine_lacks_is_said_as_the_network_says_it():
    for use in (lambda n: n.get_extra_state(), lambda n: n.set_extra_state(0), lambda n: n.xpu(), lambda n: n.no_such_thing):
        with pytest.raises(Exception) as by_the_network:
            use(own())
        with pytest.raises(type(by_the_network.value)) as by_the_proxy:
            use(NetworkProxy(own(), None))
        assert str(by_the_proxy.value) == str(by_the_network.value)


class Predictor:
    """What nnU-Net's predictor does with a network."""

    def __init__(self, parameters=None):
        self.parameters = parameters

    def __call__(self, x, network):
        self.network = network
        with torch.no_grad():
            self.network = self.network.to(torch.device("cpu"))
            self.network.eval()
            if self.parameters is not None:
                self.network.load_state_dict(self.parameters)
            answer = self.network(x.to(next(self.network.parameters()).device))
            for axes in ((2,), (3,), (2, 3)):
                answer += torch.flip(self.network(torch.flip(x, axes)), axes)
        return answer / 4


@pytest.mark.parametrize("method", [PRESENT, TENT], ids=["statistics", "tent"])
@pytest.mark.parametrize("loads", [False, True])
def test_a_predictor_in_the_manner_of_nnunet_adapts(loads, method):
    net, x = own(), image(size=8)
    before = state(net)
    answer, case = asked(Predictor(net.state_dict() if loads else None), net, method)
    assert case.reason is None and same(before, state(net))
    shown = asked(lambda x, n: sum(torch.flip(n(torch.flip(x, a)), a) for a in ((), (2,), (3,), (2, 3))) / 4, net, method)[0]
    torch.testing.assert_close(answer, shown)
    assert not torch.allclose(answer, Predictor()(x, net), atol=1e-3)


def test_a_predictor_with_the_weights_of_another_fold_is_refused():
    net = own()
    others = {name: value + 0.1 if value.is_floating_point() else value for name, value in net.state_dict().items()}
    _, case = asked(Predictor(others), net)
    assert "puts other weights into the network (net.0.weight)" in case.reason


CALLS = {
    "a bound method": lambda x, n: (lambda forward: forward(x))(n.forward),
    "by keyword": lambda x, n: n(x=x),
    "a method of its own": lambda x, n: n.predict(x).log(),
    "another method of its own": lambda x, n: n.doubled(x) / 2,
    "as a part of another": lambda x, n: nn.Sequential(n, nn.Identity())(x),
    "in DataParallel": lambda x, n: nn.DataParallel(n)(x),
    "a copy": lambda x, n: copy.deepcopy(n)(x),
    "a shallow copy of it moved": lambda x, n: copy.copy(n.to("cpu"))(x),
    "compiled": lambda x, n: torch.compile(n, backend="eager")(x),
    "functionally": lambda x, n: torch.func.functional_call(n, dict(n.named_parameters()), (x,)),
    "with gradients": lambda x, n: torch.enable_grad()(n)(x),
    "in inference mode": lambda x, n: torch.inference_mode()(n.eval())(x).clone(),
    "on the device of its parameters": lambda x, n: n(x.to(next(n.parameters()).device)),
    "an attribute of its own": lambda x, n: n(x[..., : n.patch, :, :]) if not n.many else None,
    "an attribute that it has not": lambda x, n: (setattr(n, "seen_by", "me"), n(x))[1],
    "its own classes": lambda x, n: n(x) if isinstance(n, Own) and isinstance(n.net, nn.Sequential) else None,
    "whatever else has a name": lambda x, n: (repr(n), len(n.net), dir(n), hash(n), vars(n), n.__class__.__name__, n(x))[-1],
}


@pytest.mark.parametrize("way", CALLS)
def test_each_way_to_call_the_network_gives_the_adapted_answer(way):
    net = own()
    before = state(net)
    answer, case = asked(CALLS[way], net)
    assert case.reason is None and same(before, state(net))
    shown = adapted()
    torch.testing.assert_close(answer, shown.log_softmax(1) if way == "a method of its own" else shown)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda n: torch.compile(n, backend="eager")])
def test_what_is_inside_a_wrapper_is_the_proxy_itself(wrap):
    def use(x, handed):
        inside = handed.module if hasattr(handed, "module") else handed._orig_mod
        return inside(x)

    answer, case = asked(use, wrap(own()))
    assert case.reason is None and torch.equal(answer, adapted())
    with pytest.raises(AttributeError):
        NetworkProxy(own(), None).module  # noqa: B018


def test_a_hook_on_the_network_itself_runs_and_may_change_the_answer():
    def use(x, handed):
        handle = handed.register_forward_hook(lambda module, given, answer: 3 * answer)
        first = handed(x)
        handle.remove()
        return first - 2 * handed(x)

    answer, case = asked(use)
    assert case.reason is None
    torch.testing.assert_close(answer, adapted())


def test_a_hook_of_the_source_runs_once():
    net, calls = own(), []
    net.register_forward_hook(lambda *_: calls.append(1))
    asked(lambda x, n: n.eval()(x), net, head="auto")
    assert len(calls) == 2, "the source for a first answer, and the shadow"


def test_the_network_makes_more_of_its_kind():
    class Kin(Own):
        def another(self):
            return type(self)().eval(), self.__class__().eval()

    for other in NetworkProxy(Kin().eval(), None).another():
        assert type(other) is Kin and other(image(size=8)).shape == (1, 3, 8, 8, 8)


def test_a_class_that_allows_no_subclass_is_named():
    class Last(Own):
        def __init_subclass__(cls):
            raise TypeError("this is the last one")

    answer, case = asked(SimpleInferer(), Last().eval())
    assert "Last allows no class after it" in case.reason


def test_the_unadapted_answer_is_given_by_the_callers_own_network():
    net, handed_over = own(), []
    keep = lambda x, n: (handed_over.append(n), n(x))[1]  # noqa: E731
    assert asked(keep, net, Source())[1].reason == "the method is Source: nothing adapts"
    asked(keep, net, TENT, guard=lambda *_: "no")
    assert handed_over[0] is net and handed_over[-1] is net and isinstance(handed_over[1], nn.Module)
    wrapped = nn.DataParallel(net)
    asked(keep, wrapped, Source())
    assert handed_over[-1] is wrapped


def test_an_inferer_that_picks_a_class_adapts_whether_or_not_it_is_told_the_head():
    def use(x, handed):
        answers = [handed(part) for part in x.split(8, dim=2)]
        return torch.cat([a[:, 1:2] - a[:, :1] for a in answers], 2)

    for head in ("auto", "softmax"):
        _, case = asked(use, method=TENT, x=image(size=16)[..., :8, :8], head=head)
        assert case.reason is None and case.weight_distance > 0


class TestNotAdapted:
    """An answer in which nothing adapted has a part is not recorded as adapted."""

    def test_an_inferer_that_holds_the_source(self):
        net = own()
        for use in (lambda x, n: net(x), lambda x, n: net.forward(x), SimpleInferer().__class__ and (lambda x, n: net.net(x))):
            answer, case = asked(use, net)
            assert "never calls the network that it is handed" in case.reason
            assert torch.equal(answer, net(image(size=8)).detach())

    @pytest.mark.parametrize("method", [PRESENT, TENT], ids=["statistics", "tent"])
    def test_an_inferer_that_asks_both_and_gives_the_sources_answer(self, method):
        net = own()
        answer, case = asked(lambda x, n: (n(x), net(x))[1], net, method)
        assert "asks the source network itself" in case.reason and torch.equal(answer, net(image(size=8)).detach())

    def test_an_inferer_that_mixes_both_has_an_answer_of_its_own(self):
        net = own()
        answer, case = asked(lambda x, n: (n(x) + net(x)) / 2, net)
        assert case.reason is None
        torch.testing.assert_close(answer, (adapted() + net(image(size=8)).detach()) / 2)

    def patched(self):
        net = network()
        inner = net.forward
        net.forward = lambda x: inner(x)
        return net

    def held(self):
        net = own()
        net.steps = {"all": lambda x: net.net(x)}
        net.decode = lambda features: net.steps["all"](features)
        net.encode = lambda x: x
        return net

    def of_a_layer(self):
        net = network()
        layer = net[4].forward
        net[4].forward = lambda x: layer(net[3](x) * 0 + x)
        return net

    def outside(self):
        hidden = network()
        return type("Shell", (nn.Module,), {"forward": lambda self, x: hidden(x)})().eval()

    def functional(self):
        net = network()
        net.forward = lambda x: nn.functional.conv3d(x, net[0].weight[:3], net[0].bias[:3], padding=1)
        return net

    @pytest.mark.parametrize("dims", [2, 3])
    def test_a_closure_in_two_and_three_dimensions(self, dims):
        net = network(dims=dims)
        inner = net.forward
        net.forward = lambda x: inner(x)
        x = image(dims)
        inferer = AdaptiveInferer(8, 2, 0.5, method=PRESENT)
        with torch.no_grad():
            answer = inferer(x, net)
            assert "closure" in inferer.cases[-1].reason
            assert torch.equal(answer, SlidingWindowInferer(8, 2, 0.5)(x, net))

    @pytest.mark.parametrize("make", ["patched", "held", "of_a_layer"])
    def test_layers_that_a_closure_holds(self, make):
        _, case = asked(SimpleInferer(), getattr(self, make)())
        assert "closure" in case.reason

    @pytest.mark.parametrize("make", ["outside", "functional"])
    def test_what_no_layer_tells(self, make):
        answer, case = asked(SimpleInferer(), getattr(self, make)())
        assert "the answer equals the unadapted one" in case.reason and "Statistics(" in case.reason

    def test_an_answer_that_is_known_to_be_equal(self):
        """A guard has both answers computed."""
        net = network("group")
        _, case = asked(SimpleInferer(), net, Statistics(statistics="volume"), guard=lambda *_: None)
        assert "the answer equals the unadapted one" in case.reason

    @pytest.mark.parametrize("kind", ["group", "instance", "layer"])
    def test_statistics_where_a_network_keeps_none(self, kind):
        for method in (Statistics(blend=0.3), Statistics(blend=0.0), Statistics(statistics="source")):
            _, case = asked(SimpleInferer(), network(kind), method)
            assert "the answer equals the unadapted one" in case.reason

    def test_no_hook_is_left_behind(self):
        before = torch.nn.modules.module._global_forward_pre_hooks.copy()
        asked(SimpleInferer())
        asked(lambda x, n: (_ for _ in ()).throw(RuntimeError("boom")) if isinstance(n, NetworkProxy) else n(x))
        assert torch.nn.modules.module._global_forward_pre_hooks == before
