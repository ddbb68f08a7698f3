"""The night by turned decoders: what it learns, and what it refuses."""

import pytest
import torch

from monai_tta import Adam, DyNA, TurnedDecoders
from monai_tta.core.diary import Diary
from monai_tta.core.errors import CannotAdapt
from monai_tta.pipeline.method_by_name import named_method
from tests.reference.upl import upl_steps
from tests.small import image, network, same, state
from tests.test_reference import louder
from tests.test_reference import network as reference_network

FAST = {"encoder_optimizer": Adam(lr=0.01), "decoder_optimizer": Adam(lr=0.01, betas=(0.5, 0.999)), "epochs": 1}


def test_it_equals_the_paper_in_plain_code():
    net = louder(reference_network())
    day = [torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(3)]
    order = torch.randperm(3, generator=torch.Generator().manual_seed(0)).tolist()
    encoder, decoders = upl_steps(net, [day[k] for k in order], 0.8, 0.01)
    learnt = TurnedDecoders(decoder=r"^6\.", reliable=0.8, statistics_share=0.0, **FAST).learn(net, day, "sigmoid")
    for name, tensor in encoder.named_parameters():
        torch.testing.assert_close(learnt[name], tensor.detach(), rtol=1e-6, atol=1e-9, msg=name)
    for name in ("weight", "bias"):
        mean = torch.stack([getattr(decoder, name).detach() for decoder in decoders]).mean(0)
        torch.testing.assert_close(learnt[f"6.{name}"], mean, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(decoders[0].weight, decoders[1].weight, atol=1e-4), "each decoder has learnt something else"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_a_night_gives_the_same_weights_again_and_leaves_the_source(dims, head, kind):
    net = network(kind, dims, head)
    day = [image(dims, size=8, seed=seed, n=2) for seed in range(2)]
    before, generator = state(net), torch.get_rng_state()
    night = TurnedDecoders(decoder=r"^6\.", reliable=0.5, **FAST)
    learnt, again = (night.learn(net, day, head) for _ in range(2))
    assert same(before, state(net)) and torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(learnt[name], again[name]) for name in learnt)
    running = {f"{k}.running_{what}" for k in (1, 4) for what in ("mean", "var")} if kind == "batch" else set()
    moved = {name for name, value in learnt.items() if not torch.equal(value, net.state_dict()[name])}
    # A bias before a normalisation with each window's statistics has no gradient but rounding.
    unmoved = {"0.bias", "3.bias"} if kind == "instance" else set()
    assert set(learnt) == {name for name, _ in net.named_parameters()} | running and set(learnt) - moved <= unmoved
    net.load_state_dict(net.state_dict() | learnt)


def test_windows_of_unequal_sides_are_mirrored():
    net = network(dims=2)
    day = [image(2, size=8)[..., :6]]
    learnt = TurnedDecoders(decoder=r"^6\.", reliable=0.5, **FAST).learn(net, day, "softmax")
    assert not torch.equal(learnt["6.weight"], net.state_dict()["6.weight"])


@pytest.mark.parametrize("decoder, found", [("", "names 0 of 10"), ("^nothing", "names 0 of 10"), (".", "names 10 of 10")])
def test_where_the_decoder_begins_must_be_said(decoder, found):
    with pytest.raises(CannotAdapt, match=f"{found} parameters of Sequential; give a regular .* parts are: 0, 1, 2, 3, 4, 5, 6"):
        TurnedDecoders(decoder=decoder).learn(network(), [image(size=8)], "softmax")


def test_what_else_cannot_be_is_refused():
    with pytest.raises(CannotAdapt, match="no image"):
        TurnedDecoders(decoder="6").learn(network(), [], "softmax")
    with pytest.raises(ValueError, match="reliable in"):
        TurnedDecoders(reliable=1.0)
    with pytest.raises(FloatingPointError, match="not finite"):
        TurnedDecoders(decoder="6", statistics_share=0.0).learn(network(), [image(size=8) * float("inf")], "softmax")


def test_the_command_line_and_the_night_of_a_diary_take_it(tmp_path):
    method = named_method("dyna", ["night=TurnedDecoders", "night.decoder=^6", "night.reliable=0.5", f"diary={tmp_path}"])
    assert method == DyNA(night=TurnedDecoders(decoder="^6", reliable=0.5), diary=str(tmp_path))
    diary = Diary(tmp_path)
    for seed in range(5):
        diary.add(image(size=8, seed=seed))
    learnt = method.consolidate(network(), "softmax")
    assert set(learnt) >= {"0.weight", "6.bias"}
