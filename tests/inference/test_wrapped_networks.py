"""Networks in wrappers, hidden networks, networks in unusual states: which of them adapt, and which get the unadapted answer."""

import gc
import threading

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer
from tests.small import TENT, image, inferer, network


def test_a_network_built_under_inference_mode_gets_the_unadapted_answer():
    with torch.inference_mode():
        net = network()
    with pytest.warns(UserWarning, match="inference_mode"):
        run = inferer(TENT)
        with torch.no_grad():
            answer = run(image(), net)
            unadapted = SlidingWindowInferer(8, 2, 0.5)(image(), net)
    assert torch.equal(answer, unadapted) and "inference_mode" in run.cases[-1].reason


@pytest.mark.parametrize("hide", [lambda n: lambda x: n(x), lambda n: torch.jit.script(n), lambda n: n.forward])
def test_hidden_networks_get_the_unadapted_answer_with_one_warning(hide):
    net, x = network(), image()
    hidden, run = hide(net), inferer(TENT)
    with pytest.warns(UserWarning, match="answered without adaptation") as said:
        answers = [run(x, hidden) for _ in range(2)]
    assert sum("without adaptation" in str(w.message) for w in said) == 1
    torch.testing.assert_close(answers[0].detach(), SlidingWindowInferer(8, 2, 0.5)(x, net).detach())
    assert all(c.reason for c in run.cases)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda n: torch.compile(n, backend="eager")])
def test_wrapped_networks_are_unwrapped(wrap):
    net, x = network(), image()
    run = inferer(TENT)
    torch.testing.assert_close(run(x, wrap(net)), inferer(TENT)(x, net))
    assert run.cases[-1].reason is None and run.cases[-1].network == "Sequential"


def adapt_then_train(net, x):
    parallel, run = nn.parallel.DistributedDataParallel(net), inferer(TENT)
    expected = inferer(TENT)(x, network())
    for _ in range(2):
        assert torch.equal(run(x, parallel), expected) and run.cases[-1].reason is None
    for _ in range(2):
        parallel(x[..., :8, :8, :8]).mean().backward()


def test_distributed_networks_are_unwrapped_and_can_be_trained_afterwards(tmp_path):
    """`.backward()` inside an inferer breaks DDP at its second step; ours never calls it."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net = network()
        adapt_then_train(net, image())
        gc.collect()  # the wrapper must be deleted before its group, because its destructor waits for the group's threads
        assert torch.isfinite(net[0].weight.grad).all()
    finally:
        torch.distributed.destroy_process_group()


class ReadingInferer(SlidingWindowInferer):
    """An inferer that reads attributes of the network and calls it by keyword, as those of some bundles do."""

    def __call__(self, inputs, network, *args, **kwargs):
        assert network.patch == 8 and len(list(network.children())) > 1
        return super().__call__(inputs, lambda windows: network(x=windows), *args, **kwargs)


def test_inferers_can_read_attributes_of_the_network():
    class Named(nn.Module):
        patch = 8

        def __init__(self):
            super().__init__()
            self.net, self.spare = network(), nn.Identity()

        def forward(self, x):
            return self.net(x)

    net, x = Named().eval(), image()
    run = AdaptiveInferer(method=TENT, inferer=ReadingInferer(8, 2, 0.5))
    assert torch.equal(run(x, net), inferer(TENT)(x, network())) and run.cases[-1].reason is None


def test_a_network_that_cannot_be_copied_gets_the_unadapted_answer():
    net, x = network(), image()
    unadapted = SlidingWindowInferer(8, 2, 0.5)(x, net).detach()
    net.lock = threading.Lock()
    run = inferer(TENT)
    with pytest.warns(UserWarning, match="Sequential cannot be copied: TypeError.*lock"):
        assert torch.equal(run(x, net).detach(), unadapted)
    assert run.cases[-1].reason


def test_a_network_in_training_mode_runs_in_eval_mode_and_stays_as_it_was():
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.5), nn.Conv3d(4, 2, 1))
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = AdaptiveInferer(8)(x, net.eval())
    net.train()
    before, rng = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    assert torch.equal(AdaptiveInferer(8)(x, net), expected)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and net[1].training
    assert torch.equal(rng, torch.get_rng_state())
