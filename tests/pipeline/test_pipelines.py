"""`AdaptiveInferer` in the engines and wrappers that MONAI users run networks in."""

import time
import warnings

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import EnsembleEvaluator, SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.utils import set_determinism
from torch import nn

from monai_tta import GraTa, Tent
from tests.small import FAST, image, inferer, network, same, state

METHOD = GraTa(optimizer=FAST)


def other():
    net = network()
    with torch.no_grad():
        net[0].weight.mul_(-1.5)
    return net


def test_an_ensemble_with_one_inferer_adapts_each_network_by_itself():
    nets = [network(), other()]
    before = [state(n) for n in nets]
    data = DataLoader(Dataset([{"image": image(seed=k)[0], "label": image(seed=k)[0]} for k in range(2)]), batch_size=1)
    run, seen = inferer(METHOD), []
    evaluator = EnsembleEvaluator(
        device=torch.device("cpu"), val_data_loader=data, networks=nets, pred_keys=["a", "b"], inferer=run
    )
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen.append((e.state.output[0]["a"], e.state.output[0]["b"]))
    )
    evaluator.run()
    assert len(seen) == 2 and len(run.cases) == 4 and all(c.reason is None for c in run.cases)
    for k, pair in enumerate(seen):
        for net, found in zip((network(), other()), pair, strict=True):
            torch.testing.assert_close(found, inferer(METHOD)(image(seed=k), net)[0])
    assert all(same(b, state(n)) for b, n in zip(before, nets, strict=True))


def test_each_network_has_a_stream_of_its_own():
    """TENT is not random, so a network's stream must be the same whether or not another is in between."""
    a, b, run = network(), other(), inferer(Tent(optimizer=FAST), reset="never")
    mixed = [run(image(seed=k), net) for k in range(2) for net in (a, b)]
    for net, found in ((a, mixed[::2]), (b, mixed[1::2])):
        alone = inferer(Tent(optimizer=FAST), reset="never")
        for k in range(2):
            assert torch.equal(found[k], alone(image(seed=k), net))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_answers_are_in_the_callers_half_precision_and_learning_is_not(dtype):
    net, x = network(), image()
    exact = inferer(METHOD)(x, net)
    with torch.autocast("cpu", dtype=dtype):
        plain = SlidingWindowInferer(8, 2, 0.5)(x, net)
        run = inferer(METHOD)
        answer = run(x, net)
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == dtype
        assert net(x[..., :8, :8, :8]).dtype == dtype
    assert answer.dtype == plain.dtype and run.cases[-1].reason is None
    assert (answer.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def distributed(rank, folder, images):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    net = nn.parallel.DistributedDataParallel(network())
    run = inferer(METHOD)
    answers = [run(images[rank], net), run(images[rank], net)]
    (net(images[rank][..., :8, :8, :8]).mean()).backward()
    grads = [p.grad.clone() for p in net.parameters()]
    torch.save((answers, grads, [c.reason for c in run.cases]), f"{folder}/{rank}.pt")
    # The reducer must be gone before the group is, and no rank may leave while another still talks to it.
    del net, run
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_adapt_to_their_own_images_and_can_train_afterwards(tmp_path):
    images = [image(seed=k) for k in range(2)]
    both = torch.multiprocessing.spawn(distributed, (str(tmp_path), images), nprocs=2, join=False)
    end = time.monotonic() + 120
    while not both.join(timeout=1):
        if time.monotonic() > end:
            for process in both.processes:
                process.kill()
            pytest.fail("two processes did not finish within two minutes")
    (first, g0, r0), (second, g1, r1) = (torch.load(tmp_path / f"{k}.pt", weights_only=True) for k in range(2))
    for x, answers, reasons in ((images[0], first, r0), (images[1], second, r1)):
        assert reasons == [None, None] and torch.equal(answers[0], answers[1])
        torch.testing.assert_close(answers[0], inferer(METHOD)(x, network()))
    assert all(torch.equal(a, b) for a, b in zip(g0, g1, strict=True))


@pytest.mark.parametrize("freeze", ["script", "trace", "frozen", "tensorrt"])
def test_networks_that_hide_their_layers_stay_unadapted_with_one_warning(freeze):
    net, x = network(), image()
    plain = SlidingWindowInferer(8, 2, 0.5)(x, net).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if freeze == "trace":
            hidden = torch.jit.trace(net, x[..., :8, :8, :8])
        elif freeze == "tensorrt":
            hidden = net
            hidden[0]._trt_compiler = object()  # what MONAI's trt_compile leaves on a module
        else:
            hidden = torch.jit.script(net)
            hidden = torch.jit.freeze(hidden) if freeze == "frozen" else hidden
    run = inferer(METHOD)
    with pytest.warns(UserWarning, match="answered without adaptation") as said:
        answers = [run(x, hidden) for _ in range(3)]
    assert len([w for w in said if "without adaptation" in str(w.message)]) == 1
    for answer in answers:
        torch.testing.assert_close(answer.detach(), plain, rtol=1e-4, atol=1e-5)
    assert len({c.reason for c in run.cases}) == 1 and run.cases[0].reason


def test_frozen_parameters_of_an_eager_network_can_still_be_adapted():
    net, x = network(), image()
    expected = inferer(METHOD)(x, net)
    for p in net.parameters():
        p.requires_grad_(False)
    assert torch.equal(inferer(METHOD)(x, net), expected) and not any(p.requires_grad for p in net.parameters())


def test_validation_during_training_adapts_the_current_weights():
    """An inferer in a validation loop sees other weights each time, and never changes them."""
    net, x = network(), image()
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    run = inferer(Tent(optimizer=FAST), reset="never")
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": x[0], "label": x[0]}]), batch_size=1),
        network=net,
        inferer=run,
    )
    for _ in range(2):
        net.train()
        optimizer.zero_grad()
        (net(x[..., :8, :8, :8]) ** 2).mean().backward()
        optimizer.step()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        evaluator.run()
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        twin = network()
        twin.load_state_dict(before)
        found = evaluator.state.output[0]["pred"]
        torch.testing.assert_close(found, inferer(Tent(optimizer=FAST))(x, twin)[0])


def test_monais_determinism_is_left_alone():
    set_determinism(seed=3)
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    inferer(METHOD)(image(), network())
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == torch.are_deterministic_algorithms_enabled()
    set_determinism(seed=None)
