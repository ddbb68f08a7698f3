"""Make a judge where the labels are: distort the source's own images, try the candidates, learn what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import ResampleToMatch
from torch import Tensor

from monai_tta.compute.containers import main_output
from monai_tta.core.shadow import in_eval_mode
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, Protocol
from monai_tta.inference.first_pass import detached_copy
from monai_tta.inference.window_selection import WindowSelector
from monai_tta.methods.careful import CandidatePool, Careful, TrialResults
from monai_tta.pipeline.bundle import BundleError, SourceBundle, load_bundle
from monai_tta.pipeline.output_head import head_of
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.examples import CalibrationSet
from monai_tta.preparation.fit import fit_predictor
from monai_tta.quality.gain_predictor import GainPredictor


@dataclass(frozen=True)
class CalibrationSettings:
    """How a judge is made.

    ``size`` distorted images, ``budget`` teaching windows of each; ``harm`` is the share of cases that may lose more than a
    point of Dice on held-out distortions.
    """

    size: int = 160
    budget: int = 4
    harm: float = 0.03
    seed: int = 0
    method: Careful = Careful()

    def __post_init__(self) -> None:
        if not 0 < self.harm < 1:
            raise ValueError(f"harm is a share of cases, between 0 and 1, found {self.harm}")
        if (needed := round(1 / self.harm)) > self.size + 1:
            raise ValueError(f"a rate of {self.harm:g} cannot be shown on {self.size} cases: at least {needed - 1} are needed")


def calibrate(
    root: Path,
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    trial: CalibrationSettings = CalibrationSettings(),
    keys: dict[str, Any] | None = None,
) -> Iterator[int | GainPredictor]:
    """Calibrate a bundle's judge on its labelled source data, read by its evaluate config (with ``keys`` set).

    Yields:
        the number of cases done, after each; at last the judge.

    Raises:
        BundleError: where there are no labelled cases, or labels that do not fit the answers.
        ValueError: where too few images have anything to find.
    """
    for done in collect_cases(root, dataset_dir, checkpoint, trial, keys):
        yield fit_predictor(done, trial.harm) if isinstance(done, CalibrationSet) else done


def collect_cases(
    root: Path, dataset_dir: Path, checkpoint: str, trial: CalibrationSettings, keys: dict[str, Any] | None = None
) -> Iterator[int | CalibrationSet]:
    """Distort a bundle's labelled images and hear all candidates on them; yields as `calibrate`, at last the cases."""
    bundle = load_bundle(root, checkpoint)
    cohort = LabelledDomain(root, dataset_dir, Domain("source", keys or {}), Protocol(()))
    head: Any = head_of(cohort.postprocessing())
    cases = CalibrationSet(f"{root.resolve().name}/{checkpoint}")
    images = [(d["image"].as_tensor().float(), label_on_image_grid(d)) for d in map(cohort.case, range(len(cohort)))]
    distort = Distortion(preserved_by(image for image, _ in images))
    for k in range(trial.size):
        image, label = distort(*images[k % len(images)], trial.seed + k)
        windows, truth = paired_windows(bundle, image[None], label[None], head, trial.budget)
        if windows is not None and truth is not None:
            said = run_candidates(trial.method, bundle, windows, head, trial.seed + k)
            answers, named = torch.stack([a.said.p for a in said.answers]), label_structures(truth, said.plain.shape[1], head)
            cases.add(k % len(images), said.first, said.table, answers, said.plain, named, head)
        yield k + 1
    yield cases


def parse_keys(settings: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE texts as keys of a config.

    Raises:
        ValueError: for one without a name or a value.
    """
    keys = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if not key or not value:
            raise ValueError(f"--set takes KEY=VALUE, found {setting!r}")
        keys[key] = int(value) if value.isdigit() else value
    return keys


def preserved_by(images: Any) -> str:
    """What a bundle's normalisation keeps the same in every image: "moments" (z-scores) or else the "range"."""
    moments = [(float(x.mean()), float(x.std())) for x in images]
    return "moments" if all(abs(m) < 0.1 and abs(s - 1) < 0.1 for m, s in moments) else "range"


def label_on_image_grid(shown: dict[str, Any]) -> Tensor:
    """The label ``(K, *spatial)`` on the grid of the image that the network is given."""
    label = shown["label"]
    if label.shape[1:] != shown["image"].shape[1:]:
        label = ResampleToMatch(mode="nearest", padding_mode="zeros")(label, shown["image"])
    return torch.as_tensor(label.as_tensor() if hasattr(label, "as_tensor") else label).float()


def label_structures(label: Tensor, channels: int, head: str) -> Tensor:
    """A label ``(N, L, *spatial)`` as one channel per structure: as many as the answer has foreground channels.

    Raises:
        BundleError: when it is neither class numbers nor one channel per structure.
    """
    wanted = channels - 1 if head == "softmax" else channels
    if label.shape[1] == wanted and (wanted > 1 or float(label.max()) <= 1):
        return label > 0.5
    if label.shape[1] == channels:
        return label[:, 1:] > 0.5
    if label.shape[1] == 1 and float(label.max()) <= wanted:
        return F.one_hot(label[:, 0].long(), wanted + 1).movedim(-1, 1)[:, 1:] > 0
    found = f"{label.shape[1]} channel(s) with values up to {float(label.max()):g}"
    raise BundleError(f"the labels have {found}, the network answers {wanted} structures: give class numbers or one channel each")


def paired_windows(
    bundle: SourceBundle, image: Tensor, label: Tensor, head: str, budget: int
) -> tuple[Tensor | None, Tensor | None]:
    """The teaching windows ``(N, C, *spatial)`` of an image, chosen as `AdaptiveInferer` chooses, and their labels; None where
    none can teach."""
    pieces: list[Tensor] = []
    teachers, channels = WindowSelector(budget), image.shape[1]

    def see(windows: Tensor, *_: Any, **__: Any) -> Tensor:
        own = detached_copy(windows)
        pieces.extend(own.split(1))
        teachers.offer(own[:, :channels].contiguous())
        return windows[:, :1]

    with torch.no_grad():
        bundle.inferer(torch.cat([image, label], 1).to(bundle.device), see)
        chosen = teachers.chosen(lambda w: main_output(bundle.network(w)), head)
    whole = [next(p for p in pieces if torch.equal(p[:, :channels], c)) for c in chosen]
    if not whole:
        return None, None
    both = torch.cat(whole)
    return both[:, :channels].contiguous(), both[:, channels:]


def run_candidates(method: Careful, bundle: SourceBundle, windows: Tensor, head: Any, seed: int) -> TrialResults:
    """What all candidates answer for the windows of one case, whatever any judge would say."""
    council = CandidatePool(in_eval_mode(bundle.network), head)
    council.seed(seed)
    with torch.enable_grad():
        return method.run_candidates(council, windows)
