"""Files of added parameters that were trained at the source: numbers alone, bound to one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.compute.number_files import load_numbers, read_once, save_numbers

FORMAT = 1


class AddedFileError(ValueError):
    """A file of added parameters is missing, damaged, or made for another network or with other choices."""


@dataclass(frozen=True, eq=False)
class AddedFile:
    """Trained added parameters, and what they belong to.

    Args:
        choices: the choices of `monai_tta.Added` with which they were made, by name.
        network: the `network_digest` of the network that they were trained on.
        arrays: the parameters by name, float32.
        about: how they were trained, in words and figures.
    """

    choices: Mapping[str, Any]
    network: str
    arrays: Mapping[str, NDArray[np.float32]]
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write arrays and JSON (.npz), to a temporary name first and then in one move."""
        description = {"format": FORMAT, "choices": self.choices, "network": self.network, "about": self.about}
        save_numbers(path, description, self.arrays)

    @classmethod
    def load(cls, path: Path) -> AddedFile:
        """Read `save` back. Nothing in a file is executed.

        Raises:
            AddedFileError: for a file that is not there, cannot be read, or was written by another version.
        """
        if not path.is_file():
            raise AddedFileError(f"{path} does not exist: `monai-tta pretrain-added BUNDLE` makes one")
        try:
            said, arrays = load_numbers(path, FORMAT)
            if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
                raise ValueError("its numbers are not finite float32")
            return cls(dict(said["choices"]), str(said["network"]), arrays, dict(said["about"]))
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not such a file
            raise AddedFileError(f"{path} cannot be read as added parameters: {type(error).__name__}: {error}") from error

    def fill(self, parameters: Mapping[str, Tensor], choices: Mapping[str, Any], network: str) -> None:
        """Write the file's numbers into parameters ``by name``, in their dtype and on their device.

        Raises:
            AddedFileError: when the file was made with other choices or for another network; nothing was written then.
        """
        if self.choices != choices:
            made = ", ".join(f"{name}={value!r}" for name, value in self.choices.items())
            raise AddedFileError(f"was made with Added({made}): give these choices with it")
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        if self.network != network or shapes != {name: array.shape for name, array in self.arrays.items()}:
            raise AddedFileError("was made for another network, or for other weights of this one: make it again for these")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(self.arrays[name]))


def read_added(path: Path) -> AddedFile:
    """The added parameters in a file, read once for as long as the file stays as it is.

    Args:
        path: the file.

    Raises:
        AddedFileError: as `AddedFile.load`.
    """
    return read_once(AddedFile.load, path)
