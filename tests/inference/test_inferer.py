"""`AdaptiveInferer` as MONAI and torch use it: signature, batches, containers, meta data, pickling, threads, evaluators."""

import copy
import importlib
import pickle
import pkgutil
import threading

import monai
import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

import monai_tta
from monai_tta import AdaptiveInferer, Source, Tent
from monai_tta.core.selection import NormAffine
from tests.small import ROWS, TENT, image, inferer, network, same, state


def test_the_signature_begins_like_monais():
    import inspect

    ours, theirs = (list(inspect.signature(c.__init__).parameters.values()) for c in (AdaptiveInferer, SlidingWindowInferer))
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    assert [p.default for p in ours[2:16]] == [p.default for p in theirs[2:16]]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[16:])


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("row", ["Tent", "GraTa"])
def test_an_evaluator_gives_the_same_answer_as_a_direct_call(row, amp):
    net, x = network(), image()
    seen = []
    run = inferer(ROWS[row])
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": x, "label": x}],
        network=net,
        inferer=run,
        amp=amp,
        postprocessing=lambda d: seen.append(d["pred"]) or d,
        decollate=False,
    )
    engine.run()
    assert torch.equal(seen[0], inferer(ROWS[row])(x, net)) and run.cases[-1].weight_distance > 0


def test_images_of_a_batch_do_not_mix():
    net, both = network(), torch.cat([image(seed=1), image(seed=2)])
    run = inferer(TENT)
    answer = run(both, net)
    assert torch.equal(answer[:1], inferer(TENT)(both[:1], net)) and torch.equal(answer[1:], inferer(TENT)(both[1:], net))
    assert len(run.cases) == 2


@pytest.mark.parametrize("head", ["softmax", "auto"])  # with "auto" the source answers a window, too
def test_windows_are_private_copies(head):
    """With one window per batch MONAI passes views of the image itself, and a network may write to its input."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            answer = self.net(x)
            x.mul_(2)
            return answer

    x = image(size=16)
    given = x.clone()
    run = AdaptiveInferer(8, 1, 0, method=TENT, head=head, learn="window")
    with torch.no_grad():
        run(x, InPlace().eval())
    assert torch.equal(x, given) and run.cases[-1].reason is None


class Several(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.net, self.kind = network(), kind

    def forward(self, x, scale=1.0):
        y = self.net(x) * scale
        return (y, y[:, :1]) if self.kind is tuple else {"main": y, "aux": y[:, :1]}


@pytest.mark.parametrize("kind", [tuple, dict])
def test_containers_and_arguments_are_kept(kind):
    net, x = Several(kind).eval(), image(n=2)
    unadapted = SlidingWindowInferer(8, 2, 0.5)(x, net, scale=2.0)
    answer = inferer(TENT)(x, net, scale=2.0)
    assert type(answer) is type(unadapted)
    if kind is dict:
        assert list(answer) == list(unadapted)
        unadapted, answer = unadapted.values(), answer.values()
    for p, a in zip(unadapted, answer, strict=True):
        assert a.shape == p.shape and not torch.equal(a, p)


@pytest.mark.parametrize("inner", [None, SimpleInferer(), SlidingWindowInferer(8, 2, 0.5)])
def test_meta_tensors_keep_their_meta(inner):
    net = network()
    x = MetaTensor(image(), affine=torch.eye(4) * 2, applied_operations=[{"class": "Told"}])
    unadapted = (inner or SlidingWindowInferer(8, 2, 0.5))(x, net)
    answer = AdaptiveInferer(8, 2, 0.5, method=TENT, inferer=inner)(x, net)
    assert type(answer) is type(unadapted) is MetaTensor
    assert torch.equal(answer.affine, unadapted.affine) and answer.applied_operations == unadapted.applied_operations


@pytest.mark.parametrize("named", [{"device": "cpu"}, {"buffer_steps": 1, "buffer_dim": 0}])
def test_options_of_a_call_are_passed_on(named):
    net, x = network(), image()
    torch.testing.assert_close(inferer(TENT)(x, net, **named), inferer(TENT)(x, net))


def test_a_slice_inferer_can_be_wrapped():
    net, x = network(dims=2), image()
    run = AdaptiveInferer(method=TENT, inferer=SliceInferer(roi_size=(8, 8), spatial_dim=2, sw_batch_size=2))
    assert run(x, net).shape == (1, 3, 12, 12, 12) and run.cases[-1].weight_distance > 0


def test_an_inferer_can_be_pickled_and_copied_and_holds_no_network():
    run = inferer(TENT, reset="never")
    run(image(), network())
    for twin in (pickle.loads(pickle.dumps(run)), copy.deepcopy(run)):
        assert twin.settings == run.settings and list(twin.cases) == list(run.cases)
    assert not any(isinstance(v, torch.Tensor | nn.Module) for v in vars(run).values())


def test_four_threads_get_the_same_answers_as_one():
    net, xs = network(), [image(seed=s) for s in range(4)]
    run = inferer(ROWS["GraTa"])
    alone, together = [inferer(ROWS["GraTa"])(x, net) for x in xs], [None] * 4

    def work(i):
        together[i] = run(xs[i], net)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(torch.equal(a, t) for a, t in zip(alone, together, strict=True))


def test_a_refused_answer_is_replaced_by_the_unadapted_one():
    net, x = network(), image()
    run = inferer(TENT, guard=lambda unadapted, adapted, head: "too bold")
    with pytest.warns(UserWarning, match="too bold"):
        assert torch.equal(run(x, net), SlidingWindowInferer(8, 2, 0.5)(x, net).detach())
    assert run.cases[-1].reason == "too bold"


@pytest.mark.parametrize(
    "x, kind, said",
    [
        (torch.zeros(1, 1, 12, 12, 12, dtype=torch.int16), TypeError, "int16"),
        (torch.randn(1, 2, 12, 12, 12), ValueError, "takes 1 channel"),
        (torch.randn(1, 1, 12, 12), ValueError, "3D"),
    ],
)
def test_an_error_names_what_is_wrong_with_an_image(x, kind, said):
    net = network()
    before = state(net)
    with pytest.raises(kind, match=said):
        inferer(TENT)(x, net)
    assert same(before, state(net))


def test_a_network_with_nothing_to_adapt_gets_a_warning():
    net = UNet(3, 1, 2, (4, 8), (2,), bias=False, norm=("instance", {"affine": False}), act="relu")
    run = AdaptiveInferer(8, method=Tent(select=NormAffine()))
    with pytest.warns(UserWarning, match="UNet has nothing to adapt.*choose select"):
        run(image(size=8), net)
    assert "UNet" in run.cases[-1].reason


def test_a_layer_that_sees_one_voxel_keeps_the_sources_statistics():
    net = UNet(3, 1, 2, (4, 8, 8, 8), (2, 2, 2), norm="batch").eval()
    run = AdaptiveInferer(8, method=TENT)
    assert run(image(size=8), net).isfinite().all()
    assert run.cases[-1].adapted and run.cases[-1].n_kept_source > 0


def test_reset_window_forgets_at_every_window():
    net, x = network(), image(size=16)
    run = AdaptiveInferer(8, 1, 0, method=TENT, learn="window", reset="window")
    whole = run(x, net)
    corner = AdaptiveInferer(8, 1, 0, method=TENT, learn="window", reset="window")(x[..., 8:, 8:, 8:], net)
    torch.testing.assert_close(whole[..., 8:, 8:, 8:], corner)


def test_the_source_method_gives_the_inner_inferers_answer():
    net, x = network(), image()
    torch.testing.assert_close(inferer(Source())(x, net), SlidingWindowInferer(8, 2, 0.5)(x, net), rtol=1e-5, atol=1e-5)


def defined(package, skip):
    """Names of classes and functions by the module of the package that defines them."""
    import inspect

    found = {}
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if any(word in module.name for word in skip):
            continue
        try:
            loaded = importlib.import_module(module.name)
        except Exception:  # an optional dependency of MONAI is not installed
            continue
        members = ((n, o) for n, o in vars(loaded).items() if inspect.isclass(o) or inspect.isfunction(o))
        found |= {n: module.name for n, o in members if o.__module__ == module.name}
    return found


def test_no_class_or_function_shares_a_name_with_monai():
    taken, ours = defined(monai, ("auto3dseg", ".tests")), defined(monai_tta, ("__main__",))
    assert len(taken) > 1000 and "AdaptiveInferer" in ours
    assert not {name: (ours[name], taken[name]) for name in ours.keys() & taken.keys()}
