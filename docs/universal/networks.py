"""The source networks: trained small ones and shipped bundles, with all candidates run on distorted images of their centre."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss, DiceLoss
from monai.networks.nets import UNet
from torch import Tensor

from docs.universal.sources import Centre, Pair, centres
from monai_tta.core.source_look import SourceLook, backgrounds_of, look_of, mean_look
from monai_tta.core.views import Views
from monai_tta.evaluation.label_masks import label_structures
from monai_tta.methods.careful import Careful
from monai_tta.methods.careful_candidates import QUICK_VIEWS, quick_candidates
from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.preparation.calibrate import collect_bundle_cases
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import GIVEN, OWN_ANSWERS, CalibrationSet
from monai_tta.preparation.labelled_images import own_answer
from monai_tta.quality.candidates import CandidatePool

ALL_VIEWS = {2: Views(axes=(0, 1), turns=True), 3: Views(axes=(0, 1, 2), turns=False)}  # by name, so that they are not measured
Sets = dict[str, CalibrationSet]  # one network's cases: of each of METHODS, and of the usual one without labels
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
USUAL = "usual"
NO_VIEWS = "no views"
QUICK = "quick"
# Whose candidates are run. The second and third are cheaper: see docs/careful.md.
METHODS = {
    USUAL: Careful(),
    NO_VIEWS: Careful(views=Views(axes=(), turns=False)),
    QUICK: Careful(candidates=quick_candidates(), views=QUICK_VIEWS),
}
ITERATIONS = 400
ITERATIONS_FOR_FEW_OR_DIFFICULT_IMAGES = 1000


def new_network(centre: Centre, kind: str) -> UNet:
    """A small U-Net for a centre's images."""
    image, label = centre.images()[0]
    channels = len(label) + (centre.head == "softmax")
    return UNet(2, len(image), channels, (16, 32, 64, 128), (2, 2, 2), num_res_units=1, norm=NORMS[kind])


def augmented(pair: Pair, still: bool, draw: Callable[[], float]) -> Pair:
    """Mirrored and turned (unless ``still``, for a network that knows one pose), zoomed, and a little brighter and noisier."""
    image, label = pair
    if not still:
        turns = int(draw() * 4)
        image, label = image.rot90(turns, (-2, -1)), label.rot90(turns, (-2, -1))
        if draw() < 0.5:
            axis = -1 if turns % 2 else -2
            image, label = image.flip(axis), label.flip(axis)
    zoom = 0.85 + 0.3 * draw()
    frame = torch.tensor([[[zoom, 0, 0.2 * draw() - 0.1], [0, zoom, 0.2 * draw() - 0.1]]])
    grid = F.affine_grid(frame, [1, 1, *image.shape[1:]], align_corners=False)
    image = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0] * (0.95 + 0.1 * draw())
    label = F.grid_sample(label[None], grid, mode="nearest", align_corners=False)[0]
    return image + 0.01 * torch.randn(image.shape), label


def train(name: str, centre: Centre, kind: str) -> UNet:
    """Train a small network from a fixed seed: batches of 8, Adam, one cycle."""
    torch.manual_seed(0)
    iterations = ITERATIONS_FOR_FEW_OR_DIFFICULT_IMAGES if name in ("hrf", "idrid") else ITERATIONS
    network = new_network(centre, kind)
    pairs = list(centre.images())[: centre.train]
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, iterations)
    for _ in range(iterations):
        batch = torch.randint(len(pairs), (8,)).tolist()
        images, labels = zip(*[augmented(pairs[k], kind == "still", lambda: float(torch.rand(()))) for k in batch], strict=True)
        loss = segmentation_loss(network(torch.stack(images)), torch.stack(labels), centre.head)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    return network.eval()


def segmentation_loss(logits: Tensor, label: Tensor, head: str) -> Tensor:
    """Dice and cross-entropy of logits ``(N, C, x, y)`` and structures ``(N, K, x, y)``."""
    if head == "softmax":
        background = 1 - label.sum(1, keepdim=True).clamp(0, 1)
        return DiceCELoss(softmax=True)(logits, torch.cat([background, label], 1))
    return DiceLoss(sigmoid=True)(logits, label) + F.binary_cross_entropy_with_logits(logits, label)


def cases_of_small_network(name: str, kind: str, size: int, folders: dict[str, Path | None]) -> Sets:
    """Train a network at a centre and calibrate it on distorted images, those that did not train it first."""
    centre = centres(**folders)[name]
    network = train(name, centre, kind)
    sets = empty_sets(f"{centre.task}/{name} {kind}", kind, look_of_centre(centre))
    sets[OWN_ANSWERS] = CalibrationSet(sets[USUAL].name, labels=OWN_ANSWERS, look=sets[USUAL].look)
    distort = Distortion(centre.preserve)
    pairs = [*centre.images()[centre.train :], *centre.images()[: centre.train]]
    channels = len(pairs[0][1]) + (centre.head == "softmax")
    found = [own_answer(network, SimpleInferer(), image, centre.head)[None] for image, _ in pairs]
    own_labels = [label_structures(label, channels, centre.head)[0].float() for label in found]
    for number in range(size):
        group = number % len(pairs)
        image, label = pairs[group]
        distorted, moved = distort(image, torch.cat([label, own_labels[group]]), number)
        labels = {GIVEN: moved[: len(label)], OWN_ANSWERS: moved[len(label) :]}
        add_image(sets, group, network, distorted, labels, centre.head, number)
    return sets


def empty_sets(name: str, kind: str, look: SourceLook) -> Sets:
    """A set for each of `METHODS` that suits a network, without cases."""
    methods = [word for word in METHODS if word != QUICK or kind != "instance"]
    return {word: CalibrationSet(name, look=look) for word in methods}


def look_of_centre(centre: Centre) -> SourceLook:
    """The mean look of a centre's undistorted images."""
    windows = [image[None] for image, _ in centre.images()]
    return mean_look([look_of(window, backgrounds_of(window)) for window in windows])


def add_image(sets: Sets, group: int, network: UNet, image: Tensor, labels: Mapping[str, Tensor], head: Any, seed: int) -> None:
    """Run the candidates of each set on a whole image ``(C, x, y)``, and add what they gained.

    ``labels`` ``(K, x, y)`` are the true one and, to calibrate without labels, the network's own answer.
    """
    for word, method in METHODS.items():
        if word not in sets:
            continue
        pool = CandidatePool(network, head)
        pool.seed(seed)
        results = method.run_candidates(pool, image[None], look=sets[word].look)
        answers = torch.stack([trial.answer.probabilities for trial in results.trials])
        added = {word: labels[GIVEN]}
        if word == USUAL and OWN_ANSWERS in sets:
            added[OWN_ANSWERS] = labels[OWN_ANSWERS]
        for name, label in added.items():
            structures = label_structures(label[None], results.unadapted.shape[1], head)
            sets[name].add(group, results.source_features, results.features, answers, results.unadapted, structures, head)


def cases_of_bundle(task: str, bundle: str, data: Path, checkpoint: str, keys: dict[str, Any], size: int, dims: int) -> Sets:
    """The cases of a shipped bundle, in the views in which the universal predictor answers, whatever training showed."""
    calibration = CalibrationSet(f"{task}/{bundle}/{checkpoint}")
    settings = CalibrationSettings(size=size, method=Careful(views=ALL_VIEWS[dims]))
    for _ in collect_bundle_cases(calibration, BUNDLES / bundle, data, checkpoint, settings, keys):
        pass
    return {USUAL: calibration}


def write_cases(make_cases: Callable[[], Sets], file: Path) -> str:
    """Make one network's cases and keep them in a file, unless it is there."""
    torch.set_num_threads(1)
    if not file.exists():
        file.write_bytes(pickle.dumps(make_cases()))  # our own, read again by the caller; nothing of it is shipped
    return file.name
