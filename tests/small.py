"""What tests of adaptation share: one setting of each method, small networks and images, and a network's whole state."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from monai_tta import STAG, VPTTA, AdaptiveInferer, Careful, Consistency, GraTa, ImageEdit, Source, Statistics, Tent, ViewAverage
from monai_tta.core.method import Descent, Wrapper
from monai_tta.core.optimizers import Adam
from monai_tta.core.restyling import Restyling
from monai_tta.core.tasks import ConsistencyTask
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import Forest, GainPredictor

FAST = Adam(lr=0.05)
TENT = Tent(optimizer=FAST)
CON = ConsistencyTask(restyling=Restyling("mri"))


def stump(low=0.1, high=0.1, feature="blend", at=0.15, margin=0.0, features=FEATURES, prefilter_threshold=-1.0):
    """A gain predictor of one tree with one split: it predicts ``low`` where the feature is at most ``at``, else ``high``.

    Its prefilter predicts 0.
    """
    arrays = ([0], [features.index(feature), -1, -1], [at, 0, 0], [1, 0, 0], [2, 0, 0], [0, low, high])
    kinds = (np.int32, np.int16, np.float32, np.int32, np.int32, np.float32)
    leaf = ([0], [-1], [0], [0], [0], [0.0])
    forest, prefilter = (Forest(*[np.array(a, k) for a, k in zip(part, kinds, strict=True)]) for part in (arrays, leaf))
    return GainPredictor(forest, tuple(features), margin, prefilter, prefilter_threshold)


_FOLDER = tempfile.TemporaryDirectory()


def saved_stump(name, **choices):
    """A file with a stump, named without its suffix."""
    file = Path(_FOLDER.name) / f"{name}.npz"
    stump(**choices).save(file)
    return str(file)


BLENDED = (Statistics(blend=0.0, statistics="volume"), Statistics(blend=0.5, statistics="volume"))
ROWS = {
    "Careful": Careful(predictor=saved_stump("hopeful"), candidates=BLENDED),
    "Source": Source(),
    "Statistics": Statistics(blend=0.3),
    "Tent": Tent(optimizer=FAST),
    "Consistency": Consistency(optimizer=FAST, objective=CON),
    "ViewAverage": ViewAverage(),
    "ImageEdit": ImageEdit(edit="sharper"),
    "GraTa": GraTa(optimizer=FAST, pseudo=CON),
    "VPTTA": VPTTA(optimizer=FAST, warm_up=50.0),
    "STAG": STAG(inner=TENT, weight=1.0, reading="row"),
}
NEEDS_RUNNING_STATS = {"VPTTA"}  # these refuse networks without BatchNorm
LEARNERS = [name for name, method in ROWS.items() if isinstance(method, Descent | Wrapper)]
NORMS = ["batch", "group", "instance", "layer"]


def with_choices(method, **choices):
    """A method with other choices; of a plug-in, the method inside gets them."""
    if isinstance(method, Wrapper):
        return replace(method, inner=with_choices(method.inner, **choices))
    return replace(method, **choices)


def norm(kind, dims, channels, size):
    """A normalisation layer of one of the kinds in `NORMS`, or made by a callable of the number of channels."""
    if callable(kind):
        return kind(channels)
    if kind == "batch":
        return (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](channels)
    if kind == "instance":
        return (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2](channels, affine=True)
    return nn.GroupNorm(2, channels) if kind == "group" else nn.LayerNorm([size] * dims)


def network(kind="batch", dims=3, head="softmax", size=8):
    """Three convolutions and two normalisation layers of this kind, with the same random weights at each call.

    The network has three classes, or two sigmoid channels. ``size`` is the windows' side, for LayerNorm.
    """
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            conv(1, 4, 3, padding=1),
            norm(kind, dims, 4, size),
            nn.ReLU(),
            conv(4, 4, 3, padding=1),
            norm(kind, dims, 4, size),
            nn.ReLU(),
            conv(4, 3 if head == "softmax" else 2, 1),
        )
    return net.eval()


def image(dims=3, size=12, seed=1, n=1):
    """Noise ``(n, 1, *[size] * dims)``."""
    return torch.randn(n, 1, *[size] * dims, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def inferer(method, head="softmax", **options):
    """An inferer with windows of side 8, two at once, and an overlap of one half."""
    return AdaptiveInferer(8, 2, 0.5, method=method, head=head, **options)


def state(net):
    """All that must not change in a source network: its tensors, their gradients, modes and numbers of hooks."""
    tensors = [
        (name, tensor.clone(), tensor.requires_grad, None if tensor.grad is None else tensor.grad.clone())
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]
    ]
    return tensors + [(name, module.training, len(module._forward_hooks)) for name, module in net.named_modules()]


def same(before, after):
    """Whether two states are equal."""
    return all(
        all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(old, new, strict=True))
        for old, new in zip(before, after, strict=True)
    )


class Around(nn.Module):
    """A network around the small one, with a forward pass of its own."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x, *args, **kwargs):
        return type(self).work(self, x, *args, **kwargs)


def around(work):
    """A network around the small one, ``self.net``, whose forward pass is ``work(self, x, *args, **kwargs)``."""
    return type("Odd", (Around,), {"work": staticmethod(work)})().eval()


def run(net, method=TENT, x=None, **options):
    """The answer of a network that adapts to an image, and its record."""
    options = {"roi_size": 8, "sw_batch_size": 2, "overlap": 0.5} | options
    made = AdaptiveInferer(method=method, **options)
    with torch.no_grad():
        answer = made(image() if x is None else x, net)
    return answer, made.cases[-1]
