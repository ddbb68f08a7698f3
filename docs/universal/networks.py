"""One source network of many: trained, or shipped, and heard on distorted images of its centre."""

import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss
from monai.networks.nets import UNet

from docs.universal.sources import Centre, Pair, centres
from monai_tta.cli.demo import BUNDLE
from monai_tta.methods.careful import CandidatePool, Careful
from monai_tta.preparation.calibrate import CalibrationSettings, collect_cases
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import CalibrationSet

NORMS: dict[str, Any] = {"batch": "batch", "still": "batch", "instance": ("instance", {"affine": True})}
KINDS = {
    "drawn-fundus": ("batch", "instance"),
    "drawn-lesion": ("batch", "still", "instance"),
    "drawn-head": ("batch", "instance"),
    "drawn-abdomen": ("batch",),
    "chase_db1": ("batch", "instance"),
    "hrf": ("batch",),
    "idrid": ("batch", "still", "instance"),
    "hippocampus": ("batch", "still", "instance"),
}


SHORT, LONG = 400, 1000  # iterations; the longer for few or difficult images


def network(centre: Centre, kind: str) -> UNet:
    """A small U-Net for a centre's images."""
    image, label = centre.images()[0]
    answers = len(label) + (centre.head == "softmax")
    return UNet(2, len(image), answers, (16, 32, 64, 128), (2, 2, 2), num_res_units=1, norm=NORMS[kind])


def moved(pair: Pair, still: bool, draw: Any) -> Pair:
    """Mirrored and turned (unless ``still``: a network that knows one pose), nearer or further, a little brighter and noisier."""
    x, y = pair
    if not still:
        turns = int(draw() * 4)
        x, y = (t.rot90(turns, (-2, -1)) for t in (x, y))
        x, y = (t.flip(-1) if turns % 2 else t.flip(-2) for t in (x, y)) if draw() < 0.5 else (x, y)
    zoom = 0.85 + 0.3 * draw()
    frame = torch.tensor([[[zoom, 0, 0.2 * draw() - 0.1], [0, zoom, 0.2 * draw() - 0.1]]])
    grid = F.affine_grid(frame, [1, 1, *x.shape[1:]], align_corners=False)
    x = F.grid_sample(x[None], grid, padding_mode="border", align_corners=False)[0] * (0.95 + 0.1 * draw())
    return x + 0.01 * torch.randn(x.shape), F.grid_sample(y[None], grid, mode="nearest", align_corners=False)[0]


def trained(centre: Centre, kind: str, iterations: int) -> UNet:
    """Train from a fixed seed: batches of 8, Adam, one cycle."""
    torch.manual_seed(0)
    net, pairs = network(centre, kind), list(centre.images())[: centre.train]
    rule = torch.optim.Adam(net.parameters(), 2e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(rule, 4e-3, iterations)
    dice, both = DiceLoss(sigmoid=True), DiceCELoss(softmax=True)
    for _ in range(iterations):
        picked = torch.randint(len(pairs), (8,)).tolist()
        images, labels = zip(*[moved(pairs[k], kind == "still", lambda: float(torch.rand(()))) for k in picked], strict=True)
        x, y = torch.stack(images), torch.stack(labels)
        logits = net(x)
        if centre.head == "softmax":
            loss = both(logits, torch.cat([1 - y.sum(1, keepdim=True).clamp(0, 1), y], 1))
        else:
            loss = dice(logits, y) + F.binary_cross_entropy_with_logits(logits, y)
        rule.zero_grad()
        loss.backward()
        rule.step()
        cycle.step()
    return net.eval()


def listen(name: str, centre: Centre, kind: str, size: int) -> CalibrationSet:
    """All candidates on distorted images of a centre, those that trained the network last."""
    net = trained(centre, kind, LONG if name in ("hrf", "idrid") else SHORT)
    cases, distort, method = CalibrationSet(f"{centre.task}/{name} {kind}"), Distortion(centre.keep), Careful()
    pairs = [*centre.images()[centre.train :], *centre.images()[: centre.train]]
    for k in range(size):
        image, label = distort(*pairs[k % len(pairs)], k)
        ask(net, method, image, label, centre.head, cases, k % len(pairs), k)
    return cases


def ask(net: UNet, method: Careful, image: Any, label: Any, head: str, cases: CalibrationSet, group: int, seed: int) -> None:
    """Hear all candidates on one image ``(C, x, y)`` and add it to the cases."""
    council = CandidatePool(net, head)
    council.seed(seed)
    said = method.run_candidates(council, image[None])
    cases.add(group, said.first, said.table, torch.stack([a.said.p for a in said.answers]), said.plain, label[None] > 0.5, head)


def bundled(task: str, bundle: str, data: Path, checkpoint: str, keys: dict[str, Any], size: int) -> CalibrationSet:
    """The same on a shipped bundle."""
    for done in collect_cases(BUNDLE.parent / bundle, data, checkpoint, CalibrationSettings(size=size), keys):
        last = done
    assert isinstance(last, CalibrationSet)
    last.name = f"{task}/{last.name}"
    return last


def work(job: tuple[str, Any], file: Path, places: dict[str, Path | None]) -> str:
    """One network, kept in a file of its own."""
    torch.set_num_threads(1)
    if not file.exists():
        what, rest = job
        cases = listen(what, centres(**places)[what], *rest) if what in KINDS else bundled(*rest)
        file.write_bytes(pickle.dumps(cases))  # our own, read below; nothing of it is shipped
    return file.name
