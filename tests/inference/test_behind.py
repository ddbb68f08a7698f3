"""Networks behind shells, hidden networks, networks in odd states: what an inferer finds behind whatever it is handed."""

import gc
import threading

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_tta import AdaptiveInferer
from tests.small import TENT, image, inferer, network


def test_a_network_built_under_inference_mode_is_answered_plainly():
    with torch.inference_mode():
        net = network()
    with pytest.warns(UserWarning, match="inference_mode"):
        run = inferer(TENT)
        with torch.no_grad():
            answer = run(image(), net)
            plain = SlidingWindowInferer(8, 2, 0.5)(image(), net)
    assert torch.equal(answer, plain) and "inference_mode" in run.cases[-1].reason


@pytest.mark.parametrize("hide", [lambda n: lambda x: n(x), lambda n: torch.jit.script(n), lambda n: n.forward])
def test_hidden_networks_are_answered_plainly_with_one_warning(hide):
    net, x = network(), image()
    hidden, run = hide(net), inferer(TENT)
    with pytest.warns(UserWarning, match="answered without adaptation") as said:
        answers = [run(x, hidden) for _ in range(2)]
    assert sum("without adaptation" in str(w.message) for w in said) == 1
    torch.testing.assert_close(answers[0].detach(), SlidingWindowInferer(8, 2, 0.5)(x, net).detach())
    assert all(c.reason for c in run.cases)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda n: torch.compile(n, backend="eager")])
def test_shells_are_opened(wrap):
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


def test_distributed_networks_are_opened_and_can_be_trained_afterwards(tmp_path):
    """`.backward()` inside an inferer breaks DDP at its second step; ours never calls it."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net = network()
        adapt_then_train(net, image())
        gc.collect()  # the wrapper must be gone before its group: its destructor waits for the group's threads
        assert torch.isfinite(net[0].weight.grad).all()
    finally:
        torch.distributed.destroy_process_group()


class Curious(SlidingWindowInferer):
    """An inferer that reads what it needs from the network and calls it by keyword, as some bundles' own do."""

    def __call__(self, inputs, network, *args, **kwargs):
        assert network.patch == 8 and len(list(network.children())) > 1
        return super().__call__(inputs, lambda windows: network(x=windows), *args, **kwargs)


def test_inferers_that_read_the_network_get_one_to_read():
    class Named(nn.Module):
        patch = 8

        def __init__(self):
            super().__init__()
            self.net, self.spare = network(), nn.Identity()

        def forward(self, x):
            return self.net(x)

    net, x = Named().eval(), image()
    run = AdaptiveInferer(method=TENT, inferer=Curious(8, 2, 0.5))
    assert torch.equal(run(x, net), inferer(TENT)(x, network())) and run.cases[-1].reason is None


def test_a_network_that_cannot_be_copied_is_answered_plainly():
    net, x = network(), image()
    plain = SlidingWindowInferer(8, 2, 0.5)(x, net).detach()
    net.lock = threading.Lock()
    run = inferer(TENT)
    with pytest.warns(UserWarning, match="Sequential cannot be copied: TypeError.*lock"):
        assert torch.equal(run(x, net).detach(), plain)
    assert run.cases[-1].reason


def test_a_network_in_training_mode_is_answered_as_in_eval_mode_and_stays_as_it_was():
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.5), nn.Conv3d(4, 2, 1))
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = AdaptiveInferer(8)(x, net.eval())
    net.train()
    before, rng = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    assert torch.equal(AdaptiveInferer(8)(x, net), expected)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and net[1].training
    assert torch.equal(rng, torch.get_rng_state())
