"""Train the learned optimiser of MGG for one network, on unlabelled source images that look as if they were of other scanners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from monai_tta.core.learned_optimizer import digest_of, untrained_weights
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.core.network_copy import in_eval_mode
from monai_tta.core.objectives import head_of_channels
from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import unwrap
from monai_tta.methods.mgg import logits_and_features
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.labelled_images import HeadOrAuto, answer_channels, plain_tensor
from monai_tta.preparation.optimizer_trainer import SHIFTS, OptimizerTrainer, OptimizerTraining
from monai_tta.preparation.source_data import load_source
from monai_tta.preparation.window_pairs import paired_windows, preserved_by

__all__ = ["OptimizerTraining", "train_bundle_optimizer", "train_network_optimizer"]


def train_network_optimizer(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    head: HeadOrAuto = "auto",
    roi_size: Any = -1,
    inferer: Callable[..., Any] | None = None,
    settings: OptimizerTraining = OptimizerTraining(),  # noqa: B008
    progress: Callable[[int, int], None] | None = None,
) -> TrainedOptimizer:
    """Train a learned optimiser for a network on its source's images, without labels and without a bundle.

    Save it by ``trained.save(Path("learned_optimizer.npz"))`` and use it by ``Learned(file="learned_optimizer.npz")``.

    Args:
        network: the trained network. It is never changed.
        images: ``(C, *spatial)`` each, preprocessed as the network needs them.
        head: what the logits stand for. "auto": one channel is "sigmoid", more are "softmax".
        roi_size: the size of the windows; the whole image unless told otherwise.
        inferer: a MONAI inferer that cuts images into windows, in place of ``roi_size``.
        settings: how long, and for which moving tensors.
        progress: called with the number of steps that are done, and of all.

    Returns:
        the learned optimiser. ``trained.about`` says how the loss went.

    Raises:
        ValueError: without an image that can be adapted on.
        CannotAdapt: for a network in which nothing can move.
        FloatingPointError: when the loss is not finite.
    """
    cutter = SlidingWindowInferer(roi_size) if inferer is None else inferer
    for done in _training(network, images, head, cutter, settings):
        if isinstance(done, TrainedOptimizer):
            return done
        if progress is not None:
            progress(done, settings.steps)
    raise AssertionError("training yields its result")


def train_bundle_optimizer(
    root: Path,
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    settings: OptimizerTraining = OptimizerTraining(),  # noqa: B008
    keys: dict[str, Any] | None = None,
    device: str | None = None,
) -> Iterator[int | TrainedOptimizer]:
    """The same for a bundle, on the images that its evaluate config (with ``keys`` set) lists. Their labels are not used.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        checkpoint: a file in the bundle's ``models`` folder.
        settings: how many images, epochs and steps.
        keys: entries of the evaluate config to set, as ``--set`` does.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.

    Yields:
        after each step, how many are done; at last the learned optimiser.

    Raises:
        BundleError: for a bundle without such images.
        ValueError: see `train_network_optimizer`.
    """
    source = load_source(root, dataset_dir, checkpoint, keys, device)
    images = [source.domain.case(number)["image"] for number in range(min(len(source.domain), settings.images))]
    yield from _training(source.bundle.network, images, source.head, source.bundle.inferer, settings)


def _training(
    network: nn.Module,
    images: Sequence[Tensor],
    head: HeadOrAuto,
    inferer: Callable[..., Any],
    settings: OptimizerTraining,
) -> Iterator[int | TrainedOptimizer]:
    source = in_eval_mode(unwrap(network))
    plain = [plain_tensor(image).float() for image in images[: settings.images]]
    if not plain:
        raise ValueError("give at least one image")
    resolved = head_of_channels(answer_channels(source, inferer, plain[0])) if head == "auto" else head
    method = settings.method
    shadow = Shadow(source, resolved, method.select, method.statistics, method.blend)

    def windows_of(image: Tensor, budget: int) -> list[Tensor]:
        cut = paired_windows(source, inferer, image[None], torch.zeros_like(image[None, :1]), resolved, budget)
        return [] if cut is None else [cut[0]]

    clean = [windows for image in plain for windows in windows_of(image, method.default_budget)]
    distort = Distortion(preserve=preserved_by(plain), families=SHIFTS)
    batches: list[Tensor] = []
    for number in range(settings.size):
        image = plain[number % len(plain)]
        distorted, _ = distort(image, torch.zeros_like(image[:1]), settings.seed + number)
        batches += windows_of(distorted, settings.windows)
    if not clean or not batches:
        raise ValueError(f"none of {len(plain)} images can be adapted on: each is constant or not finite")
    mean, std = _feature_statistics(shadow, clean)
    start = TrainedOptimizer(untrained_weights(settings.seed), shadow.kind, digest_of(shadow.start), mean.cpu(), std.cpu())
    yield from OptimizerTrainer(shadow, start, settings).run(batches, len(plain))


@torch.no_grad()
def _feature_statistics(shadow: Shadow, batches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation ``(F,)`` over the windows of all batches."""
    features = torch.cat([logits_and_features(shadow, windows)[1] for windows in batches])
    return features.mean(0), features.std(0) if len(features) > 1 else torch.zeros_like(features[0])
