"""What tests of adaptation share: one setting of each method, small networks and images, and a network's whole state."""

import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from monai_tta import (
    DGTTA,
    DLTTA,
    DUA,
    EATA,
    MEMO,
    MGG,
    SAR,
    STAG,
    VPTTA,
    AdaptiveInferer,
    BlendAverage,
    Careful,
    ChoosePrompt,
    Consistency,
    CoTTA,
    DyNA,
    GraTa,
    ImageEdit,
    InTEnt,
    MuVi,
    Rehearsal,
    SicTTA,
    Source,
    SourceLook,
    Statistics,
    Tent,
    TowardSource,
    ViewAverage,
)
from monai_tta.core.learned_optimizer import untrained_weights
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.core.method import Descent
from monai_tta.core.network_copy import network_digest
from monai_tta.core.optimizers import Adam, Learned
from monai_tta.core.replay import UnitWatcher
from monai_tta.core.restyling import Restyling
from monai_tta.core.selection import Auto
from monai_tta.core.stored_features import StoredFeatures
from monai_tta.core.tasks import ConsistencyTask, EntropyTask
from monai_tta.core.wrapper import Wrapper
from monai_tta.quality.features import FEATURES
from monai_tta.quality.figure_model import LEVELS, FigureModel, QualityCurve
from monai_tta.quality.gain_predictor import Forest, GainPredictor
from monai_tta.quality.quality_predictor import QualityPredictor, StructureModel

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


def saved_optimizer(name, **choices):
    """A file with a learned optimiser that is untrained and, unless told otherwise, of any network."""
    file = Path(_FOLDER.name) / f"{name}.npz"
    TrainedOptimizer(untrained_weights(0), **choices).save(file)
    return str(file)


NORMS = ["batch", "group", "instance", "layer"]


def norm(kind, dims, channels, size):
    """A normalisation layer of one of the kinds in `NORMS`, or made by a callable of the number of channels."""
    if callable(kind):
        return kind(channels)
    if kind == "batch":
        return (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2](channels)
    if kind == "instance":
        return (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2](channels, affine=True)
    return nn.GroupNorm(2, channels) if kind == "group" else nn.LayerNorm([size] * dims)


class Sequential(nn.Sequential):
    """Layers with a keyword argument, for a method that gives the network one."""

    def forward(self, x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        for layer in self:
            x = layer(x)
        return x if gain == 1 else x * gain


def network(kind="batch", dims=3, head="softmax", size=8):
    """Three convolutions and two normalisation layers of this kind, with the same random weights at each call.

    The network has three classes, or two sigmoid channels. ``size`` is the windows' side, for LayerNorm.
    """
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Sequential(
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


def saved_features(net, dims=3, n_windows=3):
    """A file with a network's features of windows of noise."""
    windows = image(dims, size=8, n=n_windows).split(1)
    watcher = UnitWatcher(net, windows[0])
    pieces = [watcher.pieces(window, seed) for seed, window in enumerate(windows)]
    digest = network_digest(net)
    file = Path(_FOLDER.name) / f"{digest}.npz"
    StoredFeatures({name: torch.cat([p[name] for p in pieces]) for name in watcher.names}, digest).save(file)
    return str(file)


PROJECTED = GraTa(optimizer=FAST, pseudo=CON, per_layer=True, projected=True)
SEVERAL = GraTa(optimizer=FAST, pseudo=CON, more=(EntropyTask(),), normalized=True, look_ahead=0.1)
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
    "GraTa, projected, per layer": PROJECTED,
    "GraTa, several auxiliaries": SEVERAL,
    "DyNA": DyNA(inner=VPTTA(optimizer=FAST, warm_up=50.0)),
    "Rehearsal": Rehearsal(inner=GraTa(optimizer=FAST, pseudo=CON), file=saved_features(network())),
    "ChoosePrompt": ChoosePrompt(name="gain", candidates=(1.5, 2.0), inner=Statistics(blend=0.3)),
    "MGG": MGG(optimizer=Learned(file=saved_optimizer("of any network"), lr=0.05), discrepancy=0.0),
    "TowardSource": TowardSource(change="moments", look=SourceLook((0.0,), (1.0,), ((1.0,) * 6,))),
    "STAG": STAG(inner=TENT, weight=1.0, reading="row"),
    "VPTTA": VPTTA(optimizer=FAST, warm_up=50.0),
    "BlendAverage": BlendAverage(),
    "InTEnt": InTEnt(),
    "DUA": DUA(momentum=0.5),
    "SAR": SAR(select=Auto(), optimizer=FAST, reliable=1.0),
    "CoTTA": CoTTA(select=Auto(), optimizer=FAST, decay=0.2, n_views=2, restyling=Restyling("mri")),
    "EATA": EATA(optimizer=FAST, reliable=1.0, redundancy=1.0, fisher_weight=0.0),
    "MEMO": MEMO(select=Auto(), optimizer=FAST, n_views=2, restyling=Restyling("mri")),
    "DLTTA": DLTTA(optimizer=FAST, bank_size=8, neighbors=1),
    "SicTTA": SicTTA(),
    "MuVi": MuVi(select=Auto(), optimizer=FAST, reliable=1.0, reliable_turned=1.0),
    "DGTTA": DGTTA(optimizer=FAST, steps=1),
}
NEEDS_RUNNING_STATS = {"SicTTA", "VPTTA", "DyNA", "BlendAverage", "InTEnt", "DUA"}  # these refuse networks without BatchNorm


def innermost(method):
    """The method inside all plug-ins around it."""
    return innermost(method.inner) if isinstance(method, Wrapper) else method


def changed(method, **choices):
    """The method with other choices; those that a plug-in does not have are its inner method's."""
    if not isinstance(method, Wrapper):
        return replace(method, **choices)
    own = {name: value for name, value in choices.items() if name in {f.name for f in fields(method)}}
    others = {name: value for name, value in choices.items() if name not in own}
    return replace(method, inner=changed(method.inner, **others), **own)


def fitted(row, net, dims=3):
    """A row's method with the file that belongs to a network; the rows' own files are for `network()`."""
    method = ROWS[row]
    return replace(method, file=saved_features(net, dims)) if getattr(method, "file", "auto") != "auto" else method


LEARNERS = [name for name, method in ROWS.items() if isinstance(innermost(method), Descent)]
REMEMBERING = [name for name, method in ROWS.items() if name in LEARNERS or method.is_continual]
DESCENTS = [name for name in LEARNERS if isinstance(ROWS[name], Descent)]


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


def quality_stub(net, structures=2, dice=0.8, low=-1.0, high=0.8, spread=0.1, nsd=0.9, **choices):
    """A quality predictor that expects ``dice`` and ``nsd`` of every mask of a network, ``low`` to ``high`` spreads around it."""
    leaf = ([0], [-1], [0], [0], [0])
    kinds = (np.int32, np.int16, np.float32, np.int32, np.int32, np.float32)
    zero, wide = (Forest(*[np.array(a, k) for a, k in zip((*leaf, [v]), kinds, strict=True)]) for v in (0.0, spread))
    tails = np.array([[low, high], [low, high]])
    scores = np.tile(np.linspace(low, high, len(LEVELS)), (2, 1))
    curves = (QualityCurve(0, np.array([0.0, 1.0]), np.full(2, value), 0.0) for value in (dice, nsd))
    model = StructureModel(*(FigureModel(curve, zero, 0.0, wide, tails, scores) for curve in curves))
    choices = {"budget": 1, "about": {"structures": []}} | choices
    return QualityPredictor((model,) * structures, network_digest(net), **choices)
