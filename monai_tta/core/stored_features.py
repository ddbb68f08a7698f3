"""A file of source features: a few pieces of what some of a network's modules were given at the source, bound to that network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_tta.compute.number_files import beside_checkpoint, load_numbers, save_numbers

_FORMAT = 1
_CODES = 255  # the largest code of a stored value; values are stored in 8 bits


class StoredFeaturesError(ValueError):
    """A file that is not there, or that holds no features."""


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """Pieces of source features, by the name of the module that was given them.

    Args:
        units: for each module the pieces ``(samples, C, *piece)``, float32, with the same windows' pieces in the same order.
        network: a digest of the network that they come from (`monai_tta.core.network_copy.network_digest`).
        about: how they were chosen, in plain numbers and words.
    """

    units: Mapping[str, Tensor]
    network: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write them as arrays and JSON (.npz), to a temporary name first and then in one move.

        Values are rounded to 8 bits between the smallest and the largest of each channel.

        Args:
            path: the file.

        Raises:
            StoredFeaturesError: for features that are not finite.
        """
        if not all(bool(pieces.isfinite().all()) for pieces in self.units.values()):
            raise StoredFeaturesError("these features are not finite")
        arrays: dict[str, Any] = {}
        for number, pieces in enumerate(self.units.values()):
            codes, low, step = _encode(pieces)
            arrays |= {f"codes_{number}": codes, f"low_{number}": low, f"step_{number}": step}
        description = {"format": _FORMAT, "units": list(self.units), "network": self.network, "about": dict(self.about)}
        save_numbers(path, description, arrays)

    @classmethod
    def load(cls, path: Path) -> StoredFeatures:
        """Read `save` back. Nothing in the file is executed.

        Args:
            path: the file.

        Raises:
            StoredFeaturesError: for a file that is not there, cannot be read, or was written by another version.
        """
        if not path.is_file():
            raise StoredFeaturesError(f"{path} does not exist: `monai-tta rehearsal BUNDLE --dataset-dir DATA` makes one")
        try:
            said, arrays = load_numbers(path, _FORMAT)
            units = {
                str(name): _decode(*(arrays[f"{part}_{number}"] for part in ("codes", "low", "step")))
                for number, name in enumerate(said["units"])
            }
            if not units or any(not len(pieces) or not bool(pieces.isfinite().all()) for pieces in units.values()):
                raise ValueError("it holds no features, or some that are not finite")
            return cls(units, str(said["network"]), said["about"])
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not such a file
            raise StoredFeaturesError(f"{path} cannot be read as stored features: {type(error).__name__}: {error}") from error


def features_file(weights: Path) -> Path:
    """Where the stored features of a checkpoint are kept: beside its file of weights.

    Args:
        weights: the checkpoint's file of weights.

    >>> features_file(Path("models/model.pt")).name, features_file(Path("models/model_instance.pt")).name
    ('rehearsal.npz', 'rehearsal_model_instance.npz')
    """
    return beside_checkpoint(weights, "rehearsal")


def _encode(pieces: Tensor) -> tuple[Any, Any, Any]:
    """Codes of the values, and for each channel its smallest value and the distance between two codes."""
    values = pieces.detach().cpu().float().numpy()
    other_axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    low = values.min(other_axes, keepdims=True)
    step = (values.max(other_axes, keepdims=True) - low) / _CODES
    codes = np.rint((values - low) / np.where(step > 0, step, 1)).astype(np.uint8)
    return codes, low, step


def _decode(codes: Any, low: Any, step: Any) -> Tensor:
    if codes.dtype != np.uint8:
        raise ValueError(f"its codes are {codes.dtype}")
    return torch.from_numpy(low.astype(np.float32) + step.astype(np.float32) * codes.astype(np.float32))
