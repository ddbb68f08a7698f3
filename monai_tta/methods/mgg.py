"""MGG: a learned optimiser for test-time adaptation (Deng et al.; AAAI 2025; arXiv 2412.16901)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.learned_optimizer_file import AUTO, TrainedOptimizer, file_for_checkpoint, load_optimizer
from monai_tta.core.method import AdaptationMethod, Descent, Loss
from monai_tta.core.objectives import Head, full_entropy
from monai_tta.core.optimizers import Learned, OptimizerSpec
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow


@dataclass(frozen=True, kw_only=True)
class MGG(Descent):
    """Make the network certain and its features like the source's, by the steps of an optimiser that was trained for this.

    Deng et al., "Learning to Generate Gradients for Test-Time Adaptation via Test-Time Training Layers", AAAI 2025, arXiv
    2412.16901. The loss is the entropy plus ``discrepancy / 64`` times the squared distances, summed over features, of their
    means and standard deviations from the source's. A small recurrent network, trained beforehand on unlabelled source images,
    makes the steps (`Learned`). The paper is about transformers that classify images; nothing was published for segmentation.

    A step costs one forward and backward pass of the adaptation windows, which go through the network together. It needs a file
    of numbers from the source, a few kilobytes, made by `monai-tta train-optimizer` without labels. Over a stream (reset="never")
    it remembers gradients, and no image. An episodic case has earlier gradients only with several ``steps``.

    Ours: a feature is the input of a normalisation layer, averaged over a window's voxels. The paper takes class tokens after
    such layers. (Behind a layer with each window's own statistics that average is a constant.) Windows are the batch, and the
    source's statistics are over windows of many images. One window has no deviation: that term is then left out, and the
    record's step says so. The adapted network answers; the authors' code answers before it steps.

    Args:
        optimizer: the learned optimiser. Any other goes down the same loss, and then ``source_file`` is needed.
        discrepancy: weight of the distances to the source's features, 0 or more; 0.2 for one set of the paper's images. With 0
            no statistics of the source are needed.
        source_file: the file with the statistics of the source's features; empty for the learned optimiser's own.

    Raises:
        ValueError: for choices out of range.
    """

    optimizer: OptimizerSpec = Learned()
    discrepancy: float = 0.4
    source_file: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discrepancy < 0:
            raise ValueError(f"discrepancy is a weight, 0 or more, found {self.discrepancy}")

    @property
    def default_budget(self) -> int:
        """Four: deviations over windows need several."""
        return 4

    @property
    def is_continual(self) -> bool:
        """Yes: the learned optimiser remembers the gradients of a stream."""
        return True

    @property
    def record_name(self) -> str:
        """With the names of the files alone."""
        named = replace(self, source_file=Path(self.source_file).name)
        return repr(named).replace(repr(self.optimizer), self.optimizer.record_name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The learned optimiser's, and the one with the source's statistics."""
        return (*self.optimizer.files, *([Path(self.source_file)] if self.source_file not in ("", AUTO) else []))

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """For "auto", the files beside a file of weights, where there are any."""
        optimizer = self.optimizer.for_checkpoint(weights)
        return replace(self, optimizer=optimizer, source_file=file_for_checkpoint(self.source_file, weights))

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow with the optimiser's memory empty."""
        shadow = super().begin(source, head)
        if self.discrepancy:
            self._trained().check_fits(shadow.moving, self._file)
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Entropy in nats plus the weighted distances, in squared units of the features."""
        return feature_loss(shadow, windows, self._trained() if self.discrepancy else None, self.discrepancy)

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step. All windows go through the network together, because deviations are taken over them."""
        usual = shadow.voxels_at_once
        shadow.voxels_at_once = windows[:, 0].numel() if self.discrepancy else usual
        try:
            done = super().step(shadow, windows, loss)
        finally:
            shadow.voxels_at_once = usual
        n_compared = len(windows) if self.discrepancy and len(windows) > 1 else 0
        return replace(done, notes={"windows in deviations": float(n_compared)})

    @property
    def _file(self) -> str:
        return self.source_file or (self.optimizer.file if isinstance(self.optimizer, Learned) else "")

    def _trained(self) -> TrainedOptimizer:
        if not self._file:
            raise CannotAdapt("without a learned optimiser MGG needs source_file, or discrepancy=0")
        return load_optimizer(self._file)


def feature_loss(shadow: Shadow, windows: Tensor, source: TrainedOptimizer | None, discrepancy: float) -> Tensor:
    """Mean entropy per voxel in nats, plus ``discrepancy / 64`` times the squared distances from the source's features.

    Args:
        shadow: answers the windows.
        windows: ``(N, C, *spatial)``. With N = 1 only means are compared.
        source: holds the source's statistics; None for the entropy alone.
        discrepancy: the weight.

    Raises:
        CannotAdapt: when the statistics are not of this network's features.
    """
    if source is None:
        return full_entropy(shadow(windows), shadow.head)
    logits, features = logits_and_features(shadow, windows)
    mean, std = source.feature_mean.to(features), source.feature_std.to(features)
    if features.shape[1] != len(mean):
        raise CannotAdapt(
            f"the file has statistics of {len(mean)} features, and this {shadow.kind} has {features.shape[1]}: give the file of "
            "this network, or choose discrepancy=0"
        )
    distance = ((features.mean(0) - mean) ** 2).sum()
    if len(windows) > 1:
        distance = distance + ((features.std(0) - std) ** 2).sum()
    return full_entropy(logits, shadow.head) + discrepancy / 64 * distance


def logits_and_features(shadow: Shadow, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of windows ``(N, C, *spatial)``, and their features ``(N, F)``: what each normalisation layer is given, averaged.

    The average is over space, so there is one feature for each channel of each layer, in the order of the forward pass. Layers
    that see parts of windows as a batch of their own are left out.
    """
    found: list[Tensor] = []
    with _inputs_of_norms(shadow.module, len(windows), found):
        logits = shadow(windows)
    return logits, torch.cat(found, 1) if found else windows.new_zeros(len(windows), 0)


@contextmanager
def _inputs_of_norms(module: nn.Module, n_windows: int, found: list[Tensor]) -> Iterator[None]:
    def collect(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        if len(x) == n_windows and x.ndim > 2:
            channels_last = isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1
            flat = x.flatten(1, -2) if channels_last else x.flatten(2).transpose(1, 2)
            found.append((flat if flat.dtype == torch.float64 else flat.float()).mean(1))

    layers = [layer for layer in module.modules() if isinstance(layer, _NormBase | nn.GroupNorm | nn.LayerNorm)]
    hooks = [layer.register_forward_pre_hook(collect) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
