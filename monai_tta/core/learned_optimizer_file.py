"""Learned optimisers as files of numbers: what was learnt, for which tensors, and what the source's features look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_tta.compute.number_files import beside_checkpoint, load_numbers, read_once, save_numbers
from monai_tta.core.errors import CannotAdapt, cannot_use
from monai_tta.core.learned_optimizer import WEIGHT_SHAPES, check_weights, digest_of

FORMAT = 1
AUTO = "auto"


class OptimizerFileError(ValueError):
    """A learned optimiser's file is missing, damaged or of another version."""


@dataclass(frozen=True, eq=False)
class TrainedOptimizer:
    """A learned optimiser, and the network that it was trained for.

    Args:
        weights: see `monai_tta.core.learned_optimizer.WEIGHT_SHAPES`.
        network: the class of that network; for messages.
        tensors: a digest of the tensors that moved, at the source's values, see `digest_of`. Empty for any.
        feature_mean: the source's features ``(F,)``, mean over windows; empty where they were not measured.
        feature_std: their standard deviation over windows ``(F,)``, unbiased.
        about: how it was trained, in words and figures.
    """

    weights: Mapping[str, Tensor]
    network: str = ""
    tensors: str = ""
    feature_mean: Tensor = field(default_factory=lambda: torch.zeros(0))
    feature_std: Tensor = field(default_factory=lambda: torch.zeros(0))
    about: Mapping[str, Any] = field(default_factory=dict)

    def check_fits(self, moving: Sequence[Tensor], file: str) -> None:
        """Refuse tensors of another network, or another selection of them. They must still have the source's values.

        Args:
            moving: the tensors that it is to move.
            file: what the error calls it.

        Raises:
            CannotAdapt: for these.
        """
        if self.tensors and digest_of(moving) != self.tensors:
            raise CannotAdapt(
                f"{Path(file).name} was trained for other tensors, of a {self.network}: give the file of this network and "
                "selection, which `monai-tta train-optimizer` makes"
            )

    def save(self, path: Path) -> None:
        """Write arrays and JSON (.npz), to a temporary name first and then in one move.

        Args:
            path: the file.
        """
        said = {"format": FORMAT, "network": self.network, "tensors": self.tensors, "about": dict(self.about)}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.weights.items()}
        features = {"feature_mean": self.feature_mean.numpy(), "feature_std": self.feature_std.numpy()}
        save_numbers(path, said, {**features, **arrays})

    @classmethod
    def load(cls, path: Path) -> TrainedOptimizer:
        """Read `save` back.

        Args:
            path: the file.

        Raises:
            OptimizerFileError: for a file that is not there, cannot be read, or was written by another version.
        """
        if not path.is_file():
            raise OptimizerFileError(f"{path} does not exist: `monai-tta train-optimizer BUNDLE` makes a learned optimiser")
        try:
            said, arrays = load_numbers(path, FORMAT)
            names = (*WEIGHT_SHAPES, "feature_mean", "feature_std")
            numbers = {name: torch.from_numpy(np.array(arrays[name], np.float32)) for name in names}
            mean, std = numbers.pop("feature_mean"), numbers.pop("feature_std")
            check_weights(numbers)
            if mean.ndim != 1 or mean.shape != std.shape or not bool((mean + std).isfinite().all()):
                raise ValueError("its features' means and deviations do not fit each other")
            return cls(numbers, str(said["network"]), str(said["tensors"]), mean, std, said["about"])
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not such a file
            raise OptimizerFileError(f"{path} cannot be read as a learned optimiser: {type(error).__name__}: {error}") from error


def optimizer_file(weights: Path) -> Path:
    """Where the learned optimiser of a checkpoint is kept: beside its file of weights.

    Args:
        weights: the checkpoint's file of weights.

    >>> optimizer_file(Path("models/model.pt")).name, optimizer_file(Path("models/model_instance.pt")).name
    ('learned_optimizer.npz', 'learned_optimizer_model_instance.npz')
    """
    return beside_checkpoint(weights, "learned_optimizer")


def file_for_checkpoint(file: str, weights: Path) -> str:
    """For "auto", the file beside a file of weights, where there is one; else the file as it is named.

    Raises:
        OptimizerFileError: when a file cannot be read: at once, rather than once per case.
    """
    beside = optimizer_file(weights)
    found = str(beside) if file == AUTO and beside.is_file() else file
    if found not in (AUTO, ""):
        read_optimizer(Path(found))
    return found


def load_optimizer(file: str) -> TrainedOptimizer:
    """The learned optimiser in a file.

    Raises:
        CannotAdapt: when there is none; for "auto" where no bundle's checkpoint has one.
    """
    if file == AUTO:
        raise CannotAdapt(
            "no learned optimiser lies beside this network's weights: `monai-tta train-optimizer` makes one; name its file"
        )
    path = Path(file)
    try:
        return read_optimizer(path)
    except OptimizerFileError as error:
        raise cannot_use(path, error) from error


def read_optimizer(path: Path) -> TrainedOptimizer:
    """The learned optimiser in a file, read once for as long as the file stays as it is.

    Raises:
        OptimizerFileError: as `TrainedOptimizer.load`.
    """
    return read_once(TrainedOptimizer.load, path)
