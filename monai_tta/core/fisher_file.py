"""A file with the Fisher information of a source network: how much its answer depends on each of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.number_files import beside_checkpoint, load_numbers, save_numbers

_FORMAT = 1


class FisherError(ValueError):
    """A file that is not there, or that holds no Fisher information."""


@dataclass(frozen=True, eq=False)
class FisherInformation:
    """The diagonal of the Fisher information matrix of some of a network's parameters.

    Args:
        values: by the name of each parameter, in its shape; float32, 0 or more.
        network: a digest of the network (`monai_tta.core.network_copy.network_digest`).
        about: how they were found, in plain numbers and words.
    """

    values: Mapping[str, Tensor]
    network: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it as arrays and JSON (.npz), to a temporary name first and then in one move.

        Args:
            path: the file.

        Raises:
            FisherError: for values that are not finite.
        """
        if not all(bool(value.isfinite().all()) for value in self.values.values()):
            raise FisherError("this Fisher information is not finite")
        arrays = {f"value_{number}": value.detach().cpu().float().numpy() for number, value in enumerate(self.values.values())}
        description = {"format": _FORMAT, "names": list(self.values), "network": self.network, "about": dict(self.about)}
        save_numbers(path, description, arrays)

    @classmethod
    def load(cls, path: Path) -> FisherInformation:
        """Read `save` back. Nothing in the file is executed.

        Args:
            path: the file.

        Raises:
            FisherError: for a file that is not there, cannot be read, or was written by another version.
        """
        if not path.is_file():
            raise FisherError(f"{path} does not exist: `monai-tta fisher BUNDLE IMAGES` makes one")
        try:
            said, arrays = load_numbers(path, _FORMAT)
            values = {str(name): torch.from_numpy(arrays[f"value_{number}"]) for number, name in enumerate(said["names"])}
            if not values or not all(
                v.dtype == torch.float32 and bool((v >= 0).all() & v.isfinite().all()) for v in values.values()
            ):
                raise ValueError("it holds no numbers, or some that are negative or NaN")
            return cls(values, str(said["network"]), said["about"])
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not such a file
            raise FisherError(f"{path} cannot be read as Fisher information: {type(error).__name__}: {error}") from error


def fisher_file(weights: Path) -> Path:
    """Where the Fisher information of a checkpoint is kept: beside its file of weights.

    Args:
        weights: the checkpoint's file of weights.

    >>> fisher_file(Path("models/model.pt")).name, fisher_file(Path("models/model_instance.pt")).name
    ('fisher.npz', 'fisher_model_instance.npz')
    """
    return beside_checkpoint(weights, "fisher")
