"""Train added parameters at the source, on unlabelled images, before they adapt anywhere (TPP; 2024; arXiv 2408.15011)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from monai_tta.core.added_files import AddedFile
from monai_tta.core.added_parameters import Added
from monai_tta.core.label_free_metrics import agreement
from monai_tta.core.network_copy import in_eval_mode, network_digest
from monai_tta.core.objectives import cross_entropy, head_of_channels, probabilities
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import unwrap
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.labelled_images import HeadOrAuto, answer_channels, plain_tensor
from monai_tta.preparation.window_pairs import paired_windows, preserved_by

UNSEEN = 2**40  # seeds from here on measure; the smaller ones train


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings:
    """What is trained before adaptation, and how.

    Args:
        select: which parameters are added; with a file, training goes on from there.
        statistics: whose normalisation statistics the network uses meanwhile, "window" or "source". Choose what the method will
            use afterwards; "window" is the methods' default. It matters for networks with running statistics.
        optimizer: the optimiser. Its learning rate falls in a straight line, to zero after the last step.
        steps: how many, 1 or more.
        budget: how many windows of an image a step sees at most.
        measured: with how many distortions agreement is measured, before and after.
        seed: of all random draws, but for the parameters' initial weights, whose seed ``select`` holds.

    Raises:
        ValueError: for choices out of range.
    """

    select: Added = Added()
    statistics: Literal["window", "source"] = "window"
    optimizer: OptimizerSpec = Adam(lr=1e-3)
    steps: int = 200
    budget: int = 2
    measured: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.statistics not in ("source", "window"):
            raise ValueError(f"statistics must be 'window' or 'source', found {self.statistics!r}")
        if min(self.steps, self.budget, self.measured) < 1:
            raise ValueError(f"steps, budget and measured are 1 or more, found {self.steps}, {self.budget}, {self.measured}")


def pretrain_added(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    head: HeadOrAuto = "auto",
    roi_size: Any = -1,
    inferer: Callable[..., Any] | None = None,
    settings: PretrainingSettings = PretrainingSettings(),
    progress: Callable[[int, int], None] | None = None,
) -> AddedFile:
    """Train added parameters on unlabelled images of a network's source, while all that the network has stays as it is.

    TPP (2024, arXiv 2408.15011) trains new parameters by a self-supervised task on a frozen backbone before they are fine-tuned,
    instead of starting them from random numbers. The paper leaves the task open. Ours: each image is shown as another scanner
    might show it, and the network with its added parameters learns to answer it as the network alone answers the image itself;
    and the image itself as before. So it needs no decoder for images, and what it learns is segmentation.

    A step costs two forward passes and a backward pass of its windows, two forward passes without gradient, and what it takes to
    select windows. Save the result by ``.save(Path("added.npz"))`` and use it by ``select=Added(file="added.npz")``.

    Args:
        network: the trained network in float32, on the device on which it is to be trained. It is never changed.
        images: ``(C, *spatial)`` each, preprocessed as the network needs them, from its source. A few dozen are enough.
        head: what the logits stand for. "auto": one channel is "sigmoid", more are "softmax".
        roi_size: the size of the windows, as for `AdaptiveInferer`; the whole image unless told otherwise.
        inferer: a MONAI inferer that cuts images into windows, in place of ``roi_size``.
        settings: what is added, and how it is trained.
        progress: called with the number of steps that are done, and of all.

    Returns:
        the trained parameters. ``.about`` has the agreement (soft Dice, in [0, 1]) with the network's answers to the images as
        they are, before and after: of answers to distortions that it was not trained on, and to the images as they are. With
        statistics="window" these differ before, too.

    Raises:
        ValueError: for no images, or images without a window to learn from.
        CannotAdapt: for a network without such a convolution, or whose layers cannot be seen.
        FloatingPointError: when a gradient is not finite.
    """
    cutter = SlidingWindowInferer(roi_size) if inferer is None else inferer
    for done in training_steps(network, images, head, cutter, settings):
        if isinstance(done, AddedFile):
            return done
        if progress is not None:
            progress(done, settings.steps)
    raise AssertionError("training ends with a file")


def training_steps(
    network: nn.Module, images: Sequence[Tensor], head: HeadOrAuto, inferer: Callable[..., Any], settings: PretrainingSettings
) -> Iterator[int | AddedFile]:
    """Train as `pretrain_added` does.

    Yields:
        after each step, how many are done; at last the trained parameters.
    """
    if not images:
        raise ValueError("there is no image to learn from")
    pairs = _Pairs(in_eval_mode(unwrap(network)), [plain_tensor(image).float() for image in images], head, inferer, settings)
    teacher = Shadow(pairs.source, pairs.head, None)
    student = Shadow(pairs.source, pairs.head, settings.select, settings.statistics)
    student.optimizer = settings.optimizer.build(student.moving)
    before = _agreements(teacher, student, pairs, settings.measured)
    for number in range(settings.steps):
        with torch.enable_grad():
            _, gradient = student.gradient(lambda shadow, some: _loss(teacher, shadow, some), pairs.of(number))
            student.step_along(gradient, 1 - number / settings.steps)
        yield number + 1
    after = _agreements(teacher, student, pairs, settings.measured)
    about = {
        "images": len(images),
        "steps": settings.steps,
        "statistics": settings.statistics,
        "numbers": sum(tensor.numel() for tensor in student.moving),
        "agreement, distorted, before": before[0].mean().item(),
        "agreement, distorted, after": after[0].mean().item(),
        "share of distorted that came nearer": (after[0] > before[0]).float().mean().item(),
        "agreement, as it is, before": before[1].mean().item(),
        "agreement, as it is, after": after[1].mean().item(),
    }
    named = zip(student.names, student.moving, strict=True)
    arrays = {name: tensor.detach().cpu().float().numpy() for name, tensor in named}
    yield AddedFile(settings.select.choices, network_digest(pairs.source), arrays, about)


class _Pairs:
    """Windows of images, and the same windows of these images as another scanner might show them.

    Attributes:
        source: the network in eval mode.
        head: what its logits stand for.
        images: ``(C, *spatial)`` each.
    """

    def __init__(
        self,
        source: nn.Module,
        images: Sequence[Tensor],
        head: HeadOrAuto,
        inferer: Callable[..., Any],
        settings: PretrainingSettings,
    ) -> None:
        self.source = source
        self.images = images
        self._cut = inferer
        self._settings = settings
        self._distort = Distortion(preserve=preserved_by(images))
        self.head = head_of_channels(answer_channels(source, inferer, images[0])) if head == "auto" else head

    def of(self, number: int) -> Tensor:
        """The pairs of a step: windows as they are, and distorted, as channels of one tensor ``(N, 2 C, *spatial)``.

        Images take turns. One that is not finite, or has no window that can be learnt from, is passed over.

        Raises:
            ValueError: when no image has such a window.
        """
        seed = self._settings.seed * 1_000_003 + number
        for turn in range(len(self.images)):
            image = self.images[(number + turn) % len(self.images)]
            if not bool(image.isfinite().all()):
                continue
            distorted = self._distort.look(image, seed)
            cut = paired_windows(self.source, self._cut, image[None], distorted[None], self.head, self._settings.budget)
            if cut is not None and bool(cut[1].isfinite().all()):
                return torch.cat(cut, 1)
        raise ValueError("no image has a window to learn from: all are constant or not finite")


def _loss(teacher: Shadow, student: Shadow, pairs: Tensor) -> Tensor:
    """Cross-entropy to the teacher's answers to the windows as they are, in nats: the mean over distorted ones and these."""
    windows, distorted = pairs.chunk(2, 1)
    with torch.no_grad():
        target = probabilities(teacher(windows), teacher.head)
    return cross_entropy(student(torch.cat([distorted, windows])), torch.cat([target, target]), student.head)


@torch.no_grad()
def _agreements(teacher: Shadow, student: Shadow, pairs: _Pairs, measured: int) -> Tensor:
    """Agreement of the student's answers with the teacher's to the windows as they are.

    Returns:
        ``(2, measured)``: for distorted windows, and for these themselves.
    """
    found = []
    for number in range(measured):
        windows, distorted = pairs.of(UNSEEN + number).chunk(2, 1)
        target = probabilities(teacher(windows), teacher.head)
        found.append([agreement(probabilities(student(x), student.head), target, student.head) for x in (distorted, windows)])
    return torch.tensor(found).T
