"""EATA: efficient test-time adaptation without forgetting (Niu et al.; ICML 2022; arXiv 2204.02610)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tta.compute.number_files import read_once
from monai_tta.core.errors import CannotAdapt, cannot_use
from monai_tta.core.fisher_file import FisherError, FisherInformation, fisher_file
from monai_tta.core.method import AdaptationMethod, Descent, Loss
from monai_tta.core.network_copy import network_digest
from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.objectives import Head, class_log_probabilities, largest_entropy
from monai_tta.core.optimizers import SGD, OptimizerSpec
from monai_tta.core.record import Step
from monai_tta.core.selection import Selection
from monai_tta.core.shadow import Shadow
from monai_tta.methods.sar import mean_over_kept


class SelectiveShadow(Shadow):
    """A shadow that knows what was predicted so far, and how much its numbers matter to the source.

    Attributes:
        fisher: the Fisher information of each moving tensor; empty without.
        usual: moving average ``(Q, C)`` of the probabilities of kept voxels; None before the first step.
        counted: within a step, for each batch the sum ``(Q, C)`` of the probabilities of kept voxels and their number ``(Q,)``.
    """

    def __init__(self, source: nn.Module, head: Head, select: Selection, statistics: StatisticsFrom, blend: float) -> None:
        super().__init__(source, head, select, statistics, blend)
        self.fisher: list[Tensor] = []
        self.usual: Tensor | None = None
        self.counted: list[tuple[Tensor, Tensor]] | None = None

    def state(self) -> dict[str, Any]:
        """What the stream has learnt, with the usual prediction."""
        return super().state() | {"usual": self.usual}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.usual = state["usual"]


@dataclass(frozen=True, kw_only=True)
class EATA(Descent):
    """Go down the entropy of voxels that are not too uncertain, the surer the more, and hold weights that matter to the source.

    Niu et al., ICML 2022, arXiv 2204.02610. Voxels count whose entropy H is below a threshold E, ``reliable`` times the largest,
    each with weight exp(E - H). ``fisher_weight`` times the squared distances of the moving numbers from the source's, each
    times its Fisher information, is added to the loss.

    It is meant for streams (reset="never"). A step costs one forward and backward pass of the adaptation windows. It keeps no
    image; with ``redundancy`` it keeps the mean of the probabilities, a number for each class. It needs a file of numbers from
    the source, one for each number that moves, which `monai-tta fisher` makes without labels, and which is refused
    for another network. With fisher_weight=0 it needs none; that is the paper's ETA.

    Ours: a sample is a voxel, and each window's loss is the mean over its kept voxels. ``reliable`` is the published share, 0.4
    of log C. The filter of redundant samples is off: of voxels it would keep those whose probabilities are nearly orthogonal to
    the average. With two classes there are none after the first image; with several these are sure voxels of foreground alone.
    The paper measures the Fisher information on 2000 images in batches of 64; ours on windows. The answer comes after the step.

    Args:
        reliable: a voxel's entropy must be below this share of the largest, above 0 and at most 1.
        redundancy: the cosine between a voxel's probabilities and their moving average must be below this; 0.05 in the paper.
            None for no such filter.
        fisher_weight: of the distance from the source, 0 or more.
        file: with the Fisher information. "auto" is the file beside a bundle's checkpoint, where there is one.

    Raises:
        ValueError: for choices out of range.
    """

    optimizer: OptimizerSpec = SGD(lr=2.5e-4, momentum=0.9, nesterov=False)
    reliable: float = 0.4
    redundancy: float | None = None
    fisher_weight: float = 2000.0
    file: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            not 0 < self.reliable <= 1
            or self.fisher_weight < 0
            or not 0 < (1 if self.redundancy is None else self.redundancy) <= 1
        ):
            raise ValueError(
                "reliable and redundancy are above 0 and at most 1, and fisher_weight is 0 or more, found "
                f"{self.reliable}, {self.redundancy} and {self.fisher_weight}"
            )

    @property
    def is_continual(self) -> bool:
        """Yes: it is made so that a stream does not forget."""
        return True

    @property
    def record_name(self) -> str:
        """With the name of the file alone."""
        plain = replace(self, file=Path(self.file).name)
        return repr(plain).replace(repr(self.optimizer), self.optimizer.record_name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The optimiser's and the selection's, and the Fisher information where it is used."""
        return (*super().files, *([Path(self.file)] if self.fisher_weight and self.file != "auto" else []))

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """For "auto", the file beside a file of weights, where there is one."""
        beside = fisher_file(weights)
        found = replace(self, file=str(beside)) if self.file == "auto" and self.fisher_weight and beside.is_file() else self
        return super(EATA, found).for_checkpoint(weights)

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow at the source.

        Raises:
            CannotAdapt: without the Fisher information of this network and of what moves, where it has a weight.
        """
        shadow = SelectiveShadow(source, head, self.select, self.statistics, self.blend)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        if self.fisher_weight:
            information = self._information(source)
            by_tensor = {id(shadow.module.get_parameter(name)): name for name in shadow.names}
            names = [by_tensor[id(tensor)] for tensor in shadow.moving]
            if missing := [name for name in names if name not in information.values]:
                raise CannotAdapt(f"{Path(self.file).name} has no Fisher information of {missing[0]}, which moves: make it again")
            shadow.fisher = [information.values[n].to(t) for n, t in zip(names, shadow.moving, strict=True)]
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Mean over windows of the mean weighted entropy of their kept voxels, in nats, plus the distance from the source."""
        assert isinstance(shadow, SelectiveShadow)
        logits = shadow(windows)
        log_p = class_log_probabilities(logits, shadow.head)
        entropy = -(log_p.exp() * log_p).sum(2)
        threshold = self.reliable * largest_entropy(logits, shadow.head)
        keep = entropy.detach() < threshold
        p = log_p.detach().exp()
        if self.redundancy is not None and shadow.usual is not None:
            usual = shadow.usual.to(p).view(1, *shadow.usual.shape, *[1] * (p.ndim - 3))
            keep &= F.cosine_similarity(usual, p, dim=2).abs() < self.redundancy
        if shadow.counted is not None:
            total = (p * keep[:, :, None]).sum((0, *range(3, p.ndim)))
            shadow.counted.append((total, keep.sum((0, *range(2, keep.ndim)))))
        loss = mean_over_kept((threshold - entropy.detach()).exp() * entropy, keep)
        each = zip(shadow.fisher, shadow.moving, shadow.start, strict=True) if shadow.fisher else ()
        distances = [(fisher * (tensor - start) ** 2).sum() for fisher, tensor, start in each]
        return loss + self.fisher_weight * sum(distances) if distances else loss

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step, unless no voxel is kept; then follow the average of the probabilities."""
        assert isinstance(shadow, SelectiveShadow)
        shadow.counted = []
        try:
            value, gradient = shadow.gradient(loss, windows)
            total, n_kept = (torch.stack(parts).sum(0) for parts in zip(*shadow.counted, strict=True))
        finally:
            shadow.counted = None
        if bool(n_kept.any()) or all(part is None for part in gradient):
            shadow.step_along(gradient)
        if self.redundancy is not None and bool(n_kept.any()):
            present = total / n_kept.clamp_min(1)[:, None]
            usual = present if shadow.usual is None else 0.9 * shadow.usual.to(present) + 0.1 * present
            known = present if shadow.usual is None else shadow.usual.to(present)
            shadow.usual = torch.where(n_kept[:, None] > 0, usual, known)
        return Step(losses={"loss": value}, lr=self.optimizer.lr, notes={"voxels kept": float(n_kept.sum())})

    def _information(self, source: nn.Module) -> FisherInformation:
        """What is in the file, which must be this network's."""
        if self.file == "auto":
            raise CannotAdapt(
                "EATA needs the Fisher information of the source, and this checkpoint has none beside it: make it by "
                "`monai-tta fisher BUNDLE IMAGES`, or choose file=FILE, or fisher_weight=0 to do without"
            )
        path = Path(self.file)
        try:
            information = read_once(FisherInformation.load, path)
        except FisherError as error:
            raise cannot_use(path, error) from error
        if information.network != network_digest(source):
            raise CannotAdapt(
                f"{path.name} is of another network than this {type(source).__name__}, or of one with other weights"
            )
        return information
