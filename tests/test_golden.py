"""GraTa and VPTTA against numbers that the authors' own code wrote (tests/golden/README.md)."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from monai_tta import VPTTA, AdaptiveInferer, GraTa, Prompt
from monai_tta.core.optimizers import SGD, Adam, AdamW
from monai_tta.core.tasks import ConsistencyTask, EntropyTask

GOLDEN = np.load(Path(__file__).parent / "golden" / "grata.npz")
IMAGES = torch.tensor(GOLDEN["images"])
RESTYLED = torch.tensor(GOLDEN["strong"])


@dataclass(frozen=True)
class GoldenRestyling:
    """Restyles each golden image as the authors' random draw did."""

    def __call__(self, windows, seeds):
        numbers = [next(i for i, image in enumerate(IMAGES) if torch.equal(image, window)) for window in windows]
        return RESTYLED[numbers]


def network(numbers=GOLDEN):
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(16, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 2, 1),
    ]
    net = nn.Sequential(*layers)
    net.load_state_dict({k[5:]: torch.tensor(numbers[k]) for k in numbers if k.startswith("init/")})
    return net.eval()


ENTROPY = EntropyTask(half=True)
CONSISTENCY = ConsistencyTask(restyling=GoldenRestyling())
RUNS = {
    "adam_ent_consis": (1e-4, GraTa(auxiliary=ENTROPY, pseudo=CONSISTENCY, optimizer=Adam(lr=1e-4))),
    "sgd_ent_consis": (1e-2, GraTa(auxiliary=ENTROPY, pseudo=CONSISTENCY, optimizer=SGD(lr=1e-2))),
    "adam_consis_ent": (1e-3, GraTa(auxiliary=CONSISTENCY, pseudo=ENTROPY, optimizer=Adam(lr=1e-3))),
    "adamw_ent_ent": (1e-3, GraTa(auxiliary=ENTROPY, pseudo=ENTROPY, optimizer=AdamW(lr=1e-3))),
}


@pytest.mark.parametrize("run", RUNS)
def test_grata_equals_the_authors_code(run):
    from monai_tta.inference.streams import streams

    lr, method = RUNS[run]
    net = network()
    inferer = AdaptiveInferer(method=method, head="sigmoid", reset="never", precision="exact")
    start = torch.cat([t for k in (1, 4, 8) for t in (net[k].weight, net[k].bias)]).detach().clone()
    for i, image in enumerate(IMAGES):
        logits = inferer(image[None], net)[0]
        step = inferer.cases[-1].steps[0]
        assert step.lr / lr == pytest.approx(float(GOLDEN[f"{run}/{i}/factor"]), rel=1e-3)
        np.testing.assert_allclose(logits.numpy(), GOLDEN[f"{run}/{i}/logits"], atol=1e-4)
        shadow = streams[inferer].shadows[net][1]
        moved = torch.cat([t.detach() for t in shadow.moving])
        golden = torch.tensor(GOLDEN[f"{run}/{i}/affine"])
        if run.startswith("sgd"):
            torch.testing.assert_close(moved, golden, atol=1e-5, rtol=0)
        assert torch.cosine_similarity(moved - start, golden - start, 0) > 0.98


def test_vptta_equals_the_authors_code():
    """24 images: 8 that start from ones, then 16 that start from the bank.

    On a CPU the code's bank holds views of the one live prompt, so that each neighbour it finds is the last image's prompt. Our
    bank holds copies (tests/test_reference.py compares those); here it is made to hold what theirs did.
    """
    from monai_tta.inference.streams import streams

    golden = np.load(Path(__file__).parent / "golden" / "vptta.npz")
    net = network(golden)
    method = VPTTA(select=Prompt(frequencies=1, published=True), neighbors=8)
    inferer = AdaptiveInferer(method=method, head="sigmoid", reset="never", collapse=None)
    for i, image in enumerate(torch.tensor(golden["images"])):
        logits = inferer(image[None], net)[0]
        shadow = streams[inferer].shadows[net][1]
        # The code shifts the spectrum along its channels, too: a channel's factors stand with the next channel.
        prompt = np.roll(golden[f"{i}/prompt"], -1, 1)
        assert inferer.cases[-1].steps[0].losses["loss"] == pytest.approx(float(golden[f"{i}/loss"]), abs=1e-5)
        np.testing.assert_allclose(shadow.moving[0].detach().numpy(), prompt, atol=1e-4)
        np.testing.assert_allclose(logits.numpy(), golden[f"{i}/logits"], atol=1e-4)
        shadow.bank = deque(((key, shadow.bank[-1][1]) for key, _ in shadow.bank), maxlen=40)
    assert len(shadow.bank) == 24
